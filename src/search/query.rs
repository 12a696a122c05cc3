//! What is searched for.

use crate::error::Error;
use crate::proto::search::{RecordQuery, RecordQueryType as Type, SearchRequest, SortMode};

/// The types that a server of version 1.2.0 has, and those before it.
const LAST_OF_1_2: i32 = Type::Trusted as i32;

/// Which records are searched for: [`Client::search`](crate::Client::search), [`Client::count`](crate::Client::count),
/// [`Client::follow`](crate::Client::follow).
///
/// A new query is for all records. Each method adds a term. Terms of one kind are alternatives, and a record must match
/// one of each kind. In a text, `*` stands for any text, and `?` for any character; case does not count.
///
/// ```
/// use agntcy_dir_stream::Query;
///
/// // Version 1.x of what is called so, of either of two skills, but none of that author.
/// let query = Query::new()
///     .name("directory.example.org/*")
///     .version("1.*")
///     .skill("natural_language_processing/*")
///     .skill("*/summarization")
///     .without(Query::new().author("Example Ltd"))
///     .limit(100);
/// # let _ = query;
/// ```
///
/// # What a server does not know
///
/// A DIR server ignores a term of a kind that it does not know, and finds all records then. So where a query has a kind
/// that came after server 1.2.0, or [`without`](Self::without), the server is first asked for something of that kind
/// that is nowhere. If it finds a record all the same, the search fails with
/// [`Unsupported`](crate::ErrorKind::Unsupported). A term that no server would look at, as one of an empty text, fails
/// with [`Invalid`](crate::ErrorKind::Invalid). An order ([`sort`](Self::sort)) that the server does not know is
/// ignored.
///
/// A server over SQLite takes 997 alternatives of one kind, and fails at more
/// ([`ServerFailed`](crate::ErrorKind::ServerFailed)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Query {
    terms: Vec<Term>,
    limit: Option<u32>,
    sort: Option<Sort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    kind: Type,
    value: String,
    negated: bool,
}

/// In which order a search gives what it finds: [`Query::sort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sort {
    /// The newest first, by when the server got them.
    Recency,
    /// The most pulled and looked up first.
    Popularity,
    /// Those that the most peers announce first.
    Providers,
    /// Those that match the most terms first.
    Relevance,
}

const SEVERITIES: [&str; 6] = ["NONE", "INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
const SCAN_STATUSES: [&str; 3] = ["completed", "partial", "failed"];

/// A text that is in no record.
const NOWHERE: &str = "agntcy-dir-stream:8d1ff2a9-nowhere";

/// The kinds by their names, which are the protocol's.
const KINDS: &[(&str, Type)] = &[
    ("name", Type::Name),
    ("version", Type::Version),
    ("skill_id", Type::SkillId),
    ("skill_name", Type::SkillName),
    ("locator", Type::Locator),
    ("module_name", Type::ModuleName),
    ("domain_id", Type::DomainId),
    ("domain_name", Type::DomainName),
    ("created_at", Type::CreatedAt),
    ("author", Type::Author),
    ("schema_version", Type::SchemaVersion),
    ("module_id", Type::ModuleId),
    ("verified", Type::Verified),
    ("trusted", Type::Trusted),
    ("annotation", Type::Annotation),
    ("scan_severity", Type::ScanSeverity),
    ("scan_safe", Type::ScanSafe),
    ("description", Type::Description),
    ("scan_status", Type::ScanStatus),
    ("scan_failure_reason", Type::ScanFailureReason),
    ("identity", Type::Identity),
    ("owner", Type::Owner),
    ("identity_verified", Type::IdentityVerified),
    ("owner_verified", Type::OwnerVerified),
];

impl Query {
    /// All records.
    pub fn new() -> Self {
        Self::default()
    }

    fn term(mut self, kind: Type, value: impl Into<String>) -> Self {
        self.terms.push(Term {
            kind,
            value: value.into(),
            negated: false,
        });
        self
    }

    /// Records of this name.
    pub fn name(self, pattern: impl Into<String>) -> Self {
        self.term(Type::Name, pattern)
    }

    /// Records of this version. `>=1.0`, `<2.0` and the like compare text, and must all be true.
    pub fn version(self, pattern: impl Into<String>) -> Self {
        self.term(Type::Version, pattern)
    }

    /// Records with a skill of this name, such as `natural_language_processing/*`.
    pub fn skill(self, pattern: impl Into<String>) -> Self {
        self.term(Type::SkillName, pattern)
    }

    /// Records with the skill of this number. Together with [`skill`](Self::skill), it is one skill that must match
    /// both.
    pub fn skill_id(self, id: u64) -> Self {
        self.term(Type::SkillId, id.to_string())
    }

    /// Records with this locator: a type (`docker_image`), a type and a URL (`docker_image:https://example.org/*`), or
    /// a URL that begins with `*` (`*example.org/agent`). Servers keep types and URLs apart: of several locators, any
    /// of the types goes with any of the URLs.
    pub fn locator(self, pattern: impl Into<String>) -> Self {
        self.term(Type::Locator, pattern)
    }

    /// Records with a module of this name.
    pub fn module(self, pattern: impl Into<String>) -> Self {
        self.term(Type::ModuleName, pattern)
    }

    /// Records with the module of this number.
    pub fn module_id(self, id: u64) -> Self {
        self.term(Type::ModuleId, id.to_string())
    }

    /// Records with a domain of this name.
    pub fn domain(self, pattern: impl Into<String>) -> Self {
        self.term(Type::DomainName, pattern)
    }

    /// Records with the domain of this number.
    pub fn domain_id(self, id: u64) -> Self {
        self.term(Type::DomainId, id.to_string())
    }

    /// Records that say that they were created then, as text: `2025-*`, or `>=2025-01-01`.
    pub fn created_at(self, pattern: impl Into<String>) -> Self {
        self.term(Type::CreatedAt, pattern)
    }

    /// Records with this in the list of their authors, anywhere.
    pub fn author(self, pattern: impl Into<String>) -> Self {
        self.term(Type::Author, pattern)
    }

    /// Records of this version of the schema. It may be compared, as a [`version`](Self::version).
    pub fn schema_version(self, pattern: impl Into<String>) -> Self {
        self.term(Type::SchemaVersion, pattern)
    }

    /// Records whose owner was verified, or those whose was not.
    pub fn verified(self, is: bool) -> Self {
        self.term(Type::Verified, is.to_string())
    }

    /// Records with a signature that was verified, or those without.
    pub fn trusted(self, is: bool) -> Self {
        self.term(Type::Trusted, is.to_string())
    }

    /// Records with this annotation: `key`, or `key:value`, with wildcards in both. Not in server 1.2.0, as all that
    /// follow.
    pub fn annotation(self, pattern: impl Into<String>) -> Self {
        self.term(Type::Annotation, pattern)
    }

    /// Records of this description.
    pub fn description(self, pattern: impl Into<String>) -> Self {
        self.term(Type::Description, pattern)
    }

    /// Records in which a scan has found something as severe or more: `NONE`, `INFO`, `LOW`, `MEDIUM`, `HIGH`,
    /// `CRITICAL`.
    pub fn scan_severity(self, least: impl Into<String>) -> Self {
        self.term(Type::ScanSeverity, least)
    }

    /// Records that all scanners have called safe, or those that one has not.
    pub fn scan_safe(self, is: bool) -> Self {
        self.term(Type::ScanSafe, is.to_string())
    }

    /// Records by how far they were scanned: `completed`, `partial`, `failed`.
    pub fn scan_status(self, status: impl Into<String>) -> Self {
        self.term(Type::ScanStatus, status)
    }

    /// Records by why a scan could not be made, such as `scanner-*`.
    pub fn scan_failure_reason(self, pattern: impl Into<String>) -> Self {
        self.term(Type::ScanFailureReason, pattern)
    }

    /// Records whose identity claim is about this subject.
    pub fn identity(self, pattern: impl Into<String>) -> Self {
        self.term(Type::Identity, pattern)
    }

    /// Records whose ownership claim is about this subject.
    pub fn owner(self, pattern: impl Into<String>) -> Self {
        self.term(Type::Owner, pattern)
    }

    /// Records whose identity claim was verified. It cannot be [left out](Self::without).
    pub fn identity_verified(self) -> Self {
        self.term(Type::IdentityVerified, "true")
    }

    /// Records whose ownership claim was verified. It cannot be [left out](Self::without).
    pub fn owner_verified(self) -> Self {
        self.term(Type::OwnerVerified, "true")
    }

    /// A term by the name of its kind: for what a user has typed in.
    ///
    /// The kinds are `name`, `version`, `skill`, `skill_id`, `locator`, `module`, `module_id`, `domain`, `domain_id`,
    /// `created_at`, `author`, `schema_version`, `verified`, `trusted`, `annotation`, `description`, `scan_severity`,
    /// `scan_safe`, `scan_status`, `scan_failure_reason`, `identity`, `owner`, `identity_verified` and
    /// `owner_verified`, as the methods; `skill_name`, `module_name` and `domain_name`, as the protocol calls them,
    /// too.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::ErrorKind::Invalid) for a kind that is not known here, which a server would ignore, and find
    /// all records; and for a value that is none of its kind.
    ///
    /// ```
    /// use agntcy_dir_stream::Query;
    ///
    /// let query = Query::new().by("skill", "*summarization")?;
    /// assert!(Query::new().by("skil", "*summarization").is_err());
    /// # Ok::<(), agntcy_dir_stream::Error>(())
    /// ```
    pub fn by(self, kind: &str, value: &str) -> Result<Self, Error> {
        let is_called = |name: &str| name == kind || name.strip_suffix("_name") == Some(kind);
        let known = KINDS.iter().find(|(name, _)| is_called(name));
        let Some((_, kind)) = known else {
            let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
            return Err(Error::invalid(format!(
                "`{kind}` is no kind of query: there are {}",
                names.join(", ")
            )));
        };
        let term = Term {
            kind: *kind,
            value: value.to_owned(),
            negated: false,
        };
        term.check()?;
        let Term { kind, value, .. } = term;
        Ok(self.term(kind, value))
    }

    /// Leaves out the records that match any of the terms of `others`, whose limit and order do not count. Server 1.2.0
    /// does not have that.
    pub fn without(mut self, others: Self) -> Self {
        self.terms.extend(others.terms.into_iter().map(|term| Term {
            negated: !term.negated,
            ..term
        }));
        self
    }

    /// At most so many records. Default: all.
    ///
    /// A page is the end of a longer list: the third of twenty is `limit(60)`, and what the stream has behind the first
    /// 40. A server's own offset would shift as records come.
    ///
    /// # Panics
    ///
    /// At zero.
    #[track_caller]
    pub fn limit(mut self, records: usize) -> Self {
        assert!(records > 0, "a search is for one record at least");
        self.limit = Some(records.try_into().unwrap_or(u32::MAX));
        self
    }

    /// In which order the records come. Default: the server's own, which is [`Recency`](Sort::Recency) on newer ones.
    /// Server 1.2.0 ignores it. Where a call breaks in the middle, what is new comes behind what was handed out.
    pub fn sort(mut self, sort: Sort) -> Self {
        self.sort = Some(sort);
        self
    }

    pub(crate) fn limit_of(&self) -> Option<usize> {
        self.limit.map(|limit| limit as usize)
    }

    /// Whether it is for all records there are, so that no record need be looked at to know that it matches.
    pub(crate) fn is_for_all(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether servers look at each of its terms.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.terms.iter().try_for_each(Term::check)
    }

    /// Queries that find nothing where a server looks at them, for what it may ignore, and that in words.
    pub(crate) fn contradictions(&self) -> Vec<(SearchRequest, String)> {
        let finds_nothing = |terms: Vec<Term>| SearchRequest {
            queries: terms.iter().map(Term::to_message).collect(),
            limit: Some(1),
            ..SearchRequest::default()
        };
        let mut contradictions = Vec::new();
        if self.terms.iter().any(|term| term.negated) {
            let none = Query::new().without(Query::new().name("*"));
            contradictions.push((finds_nothing(none.terms), "what is left out".to_owned()));
        }
        let mut kinds: Vec<&Term> = Vec::new();
        for term in &self.terms {
            let is_known = term.kind as i32 <= LAST_OF_1_2;
            if is_known || kinds.iter().any(|other| other.kind == term.kind) {
                continue;
            }
            kinds.push(term);
            let term = Term {
                negated: false,
                ..term.clone()
            };
            let terms = match term.kind {
                // Any text may be asked for.
                Type::Annotation
                | Type::Description
                | Type::ScanFailureReason
                | Type::Identity
                | Type::Owner => vec![Term {
                    value: NOWHERE.to_owned(),
                    ..term.clone()
                }],
                _ => {
                    let opposite = Term {
                        negated: true,
                        ..term.clone()
                    };
                    vec![term.clone(), opposite]
                }
            };
            contradictions.push((finds_nothing(terms), term.name().to_owned()));
        }
        contradictions
    }

    pub(crate) fn queries(&self) -> Vec<RecordQuery> {
        self.terms.iter().map(Term::to_message).collect()
    }

    /// What asks for all that match.
    pub(crate) fn to_request(&self) -> SearchRequest {
        let sort = match self.sort {
            None => SortMode::Unspecified,
            Some(Sort::Recency) => SortMode::Recency,
            Some(Sort::Popularity) => SortMode::Popularity,
            Some(Sort::Providers) => SortMode::ProviderCount,
            Some(Sort::Relevance) => SortMode::Relevance,
        };
        SearchRequest {
            queries: self.queries(),
            limit: self.limit,
            offset: None,
            sort_mode: sort.into(),
        }
    }
}

/// Of an annotation, which is `key` or `key:value`.
fn key_of(annotation: &str) -> &str {
    annotation.split(':').next().unwrap_or_default().trim()
}

impl Term {
    fn to_message(&self) -> RecordQuery {
        RecordQuery {
            r#type: self.kind.into(),
            value: self.value.clone(),
            negate: self.negated,
        }
    }

    fn name(&self) -> &'static str {
        let known = KINDS.iter().find(|(_, kind)| *kind == self.kind);
        known.map_or("unknown", |(name, _)| name)
    }

    fn check(&self) -> Result<(), Error> {
        let name = self.name();
        let wrong = |what: &str| Err(Error::invalid(format!("`{}` {what}", self.value)));
        let one_of = |known: &[&str]| match known
            .iter()
            .any(|one| one.eq_ignore_ascii_case(&self.value))
        {
            true => Ok(()),
            false => wrong(&format!("is no {name}: there are {}", known.join(", "))),
        };
        match self.kind {
            _ if self.value.trim().is_empty() => Err(Error::invalid(format!(
                "a query for an empty {name}, which servers ignore"
            ))),
            Type::Locator
                if self
                    .value
                    .split_once(':')
                    .is_some_and(|(kind, url)| kind.trim().is_empty() && url.trim().is_empty()) =>
            {
                wrong("is a locator with neither type nor URL, which servers ignore")
            }
            Type::SkillId | Type::DomainId | Type::ModuleId
                if self.value.starts_with('+') || self.value.parse::<u64>().is_err() =>
            {
                wrong(&format!("is no number, as a {name} is"))
            }
            Type::Verified | Type::Trusted | Type::ScanSafe
                if !["true", "false"]
                    .iter()
                    .any(|is| is.eq_ignore_ascii_case(&self.value)) =>
            {
                wrong(&format!("is neither true nor false, as {name} is"))
            }
            Type::IdentityVerified | Type::OwnerVerified if self.value != "true" => {
                wrong(&format!("is not true, as {name} is"))
            }
            Type::IdentityVerified | Type::OwnerVerified if self.negated => {
                Err(Error::invalid(format!("{name} cannot be left out")))
            }
            Type::Version | Type::SchemaVersion | Type::CreatedAt
                if self.value.trim_start_matches(['<', '>', '=']).is_empty() =>
            {
                wrong("compares with nothing")
            }
            Type::ScanSeverity => one_of(&SEVERITIES),
            Type::ScanStatus => one_of(&SCAN_STATUSES),
            Type::Annotation if key_of(&self.value).is_empty() => {
                wrong("is an annotation without a key, which servers ignore")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_kind_of_the_protocol_has_its_name() {
        for number in 1..64 {
            let Ok(kind) = Type::try_from(number) else {
                continue;
            };
            let name = kind.as_str_name().strip_prefix("RECORD_QUERY_TYPE_");
            let name = name.unwrap().to_lowercase();
            assert!(KINDS.contains(&(&*name, kind)), "{name}");
        }
    }

    #[test]
    fn methods_and_names_make_the_same_terms() {
        let by_methods = Query::new()
            .name("n")
            .version("v")
            .skill_id(1)
            .skill("s")
            .locator("l")
            .module("m")
            .domain_id(2)
            .domain("d")
            .created_at("c")
            .author("a")
            .schema_version("sv")
            .module_id(3)
            .verified(true)
            .trusted(false)
            .annotation("k:v")
            .scan_severity("LOW")
            .scan_safe(true)
            .description("desc")
            .scan_status("partial")
            .scan_failure_reason("f")
            .identity("i")
            .owner("o")
            .identity_verified()
            .owner_verified();
        let values = [
            "n", "v", "1", "s", "l", "m", "2", "d", "c", "a", "sv", "3", "true", "false", "k:v",
            "LOW", "true", "desc", "partial", "f", "i", "o", "true", "true",
        ];
        let by_names = KINDS.iter().zip(values);
        let by_names = by_names.fold(Query::new(), |query, ((name, _), value)| {
            query.by(name, value).unwrap()
        });
        assert_eq!(by_methods, by_names);
        assert!(by_methods.check().is_ok());
        let unknown = by_methods.contradictions();
        assert_eq!(unknown.len(), 10, "those behind `trusted`: {unknown:?}");
    }

    #[test]
    fn what_a_server_would_ignore_is_refused() {
        for (kind, value) in [
            ("nme", "x"),
            ("module_name", " "),
            ("locator", ":"),
            ("locator", " : "),
            ("skill_id", "seven"),
            ("domain_id", "-1"),
            ("verified", "yes"),
            ("owner_verified", "false"),
            ("version", ">="),
            ("scan_severity", "TERRIBLE"),
            ("scan_status", "done"),
            ("annotation", ":prod"),
            ("skill_id", "+5"),
        ] {
            let error = Query::new().by(kind, value).unwrap_err();
            assert!(error.to_string().starts_with("invalid: "), "{error}");
        }
        assert!(Query::new().name("").check().is_err());
        let left_out = Query::new().owner_verified();
        assert!(Query::new().without(left_out).check().is_err());
        for (kind, value) in [
            ("skill", "x"),
            ("scan_severity", "high"),
            ("version", ">=1"),
            ("annotation", "a:*"),
            ("annotation", "team"),
            ("verified", "TRUE"),
        ] {
            assert!(Query::new().by(kind, value).is_ok(), "{kind}");
        }
        assert!(
            Query::new()
                .without(Query::new().module(""))
                .check()
                .is_err()
        );
    }

    #[test]
    fn what_a_server_may_not_know_is_asked_about_first() {
        assert!(
            Query::new()
                .name("a")
                .trusted(true)
                .contradictions()
                .is_empty()
        );
        let others = Query::new().skill("b").annotation("c:*").limit(7);
        let query = Query::new()
            .owner_verified()
            .annotation("d:e")
            .without(others);
        assert_eq!(query.limit_of(), None);
        let contradictions = query.contradictions();
        let asked: Vec<_> = contradictions
            .iter()
            .map(|(request, words)| {
                assert_eq!(request.limit, Some(1));
                let terms = request
                    .queries
                    .iter()
                    .map(|query| (query.negate, &*query.value));
                (&**words, terms.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(
            asked,
            [
                ("what is left out", vec![(true, "*")]),
                ("owner_verified", vec![(false, "true"), (true, "true")]),
                ("annotation", vec![(false, NOWHERE)]),
            ]
        );
    }
}
