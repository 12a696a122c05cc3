//! What a record can be found by, and whether queries find it: as SQL does in a DIR server.

use serde::Deserialize;
use tonic::Status;

use super::pattern::Pattern;
use super::steps::Steps;
use crate::proto::core::RecordMeta;
use crate::proto::search::{RecordQuery, RecordQueryType};
use crate::record::Record;

/// What is kept of a record for searches, beside its metadata.
#[derive(Debug)]
pub(super) struct Searched {
    name: Box<str>,
    version: Box<str>,
    description: Box<str>,
    /// A JSON array, in which queries look for text.
    authors: Option<Box<str>>,
    skills: Box<[Class]>,
    domains: Box<[Class]>,
    modules: Box<[Class]>,
    locators: Box<[Place]>,
}

/// A skill, domain or module.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Class {
    name: Option<Box<str>>,
    id: Option<u32>,
}

/// A locator. Before OASF 1.0 it has one URL; of several, the server looks at the first.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place {
    r#type: Option<Box<str>>,
    url: Option<Box<str>>,
    #[serde(deserialize_with = "first")]
    urls: Option<Box<str>>,
}

fn first<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Box<str>>, D::Error> {
    let urls = Option::<Vec<Option<Box<str>>>>::deserialize(from)?;
    Ok(urls.into_iter().flatten().next().flatten())
}

type List<T> = Option<Vec<Option<T>>>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    name: Option<Box<str>>,
    version: Option<Box<str>>,
    description: Option<Box<str>>,
    authors: List<Box<str>>,
    skills: List<Class>,
    domains: List<Class>,
    modules: List<Class>,
    locators: List<Place>,
}

fn all<T: Default>(list: List<T>) -> Box<[T]> {
    let list = list.into_iter().flatten();
    list.map(Option::unwrap_or_default).collect()
}

/// As Go writes it, which escapes what HTML could read.
fn json(authors: Vec<Option<Box<str>>>) -> Box<str> {
    let authors: Vec<_> = authors.into_iter().map(Option::unwrap_or_default).collect();
    let text = serde_json::to_string(&authors).expect("texts are JSON");
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            _ => escaped.push(letter),
        }
    }
    escaped.into()
}

fn text(text: &Option<Box<str>>) -> &str {
    text.as_deref().unwrap_or_default()
}

impl Searched {
    /// `None`: a field has another type than OASF gives it. Then a server finds the record by nothing.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let fields: Fields = record.deserialize().ok()?;
        Some(Self {
            name: fields.name.unwrap_or_default(),
            version: fields.version.unwrap_or_default(),
            description: fields.description.unwrap_or_default(),
            authors: fields.authors.map(json),
            skills: all(fields.skills),
            domains: all(fields.domains),
            modules: all(fields.modules),
            locators: all(fields.locators),
        })
    }

    /// The labels of its events.
    pub(super) fn labels(&self, schema_version: &str) -> Vec<String> {
        let of = |kind: &str, name: &Option<Box<str>>| format!("/{kind}/{}", text(name));
        let skills = self.skills.iter().map(|one| of("skills", &one.name));
        let domains = self.domains.iter().map(|one| of("domains", &one.name));
        let modules = self.modules.iter().map(|one| of("modules", &one.name));
        let locators = self.locators.iter().map(|one| of("locators", &one.r#type));
        match schema_version.starts_with("0.7.") {
            true => skills
                .chain(domains)
                .chain(modules)
                .chain(locators)
                .collect(),
            false => domains
                .chain(locators)
                .chain(modules)
                .chain(skills)
                .collect(),
        }
    }
}

impl Place {
    fn url(&self, schema_version: &str) -> &str {
        match schema_version.starts_with("0.") {
            true => text(&self.url),
            false => text(&self.urls),
        }
    }
}

/// Values that are compared: versions and times.
#[derive(Debug, Default)]
struct Compared {
    /// All of these have to hold,
    comparisons: Vec<(Comparison, String)>,
    /// or one of these.
    patterns: Vec<Pattern>,
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    AtLeast,
    AtMost,
    Above,
    Below,
    Same,
}

impl Compared {
    fn add(&mut self, value: &str) {
        let comparison = [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            (">", Comparison::Above),
            ("<", Comparison::Below),
            ("=", Comparison::Same),
        ]
        .into_iter()
        .find_map(|(sign, comparison)| Some((comparison, value.strip_prefix(sign)?.to_owned())));
        match comparison {
            Some(comparison) => self.comparisons.push(comparison),
            None => self.patterns.push(Pattern::new(value)),
        }
    }

    fn is_empty(&self) -> bool {
        self.comparisons.is_empty() && self.patterns.is_empty()
    }

    /// Compares byte by byte, as databases do: 10 comes before 9.
    fn matches(&self, text: &str, steps: &Steps) -> bool {
        let holds = |(comparison, value): &(Comparison, String)| {
            let is_spent = !steps.take(1 + value.len().min(text.len()));
            is_spent
                || match comparison {
                    Comparison::AtLeast => text >= value.as_str(),
                    Comparison::AtMost => text <= value.as_str(),
                    Comparison::Above => text > value.as_str(),
                    Comparison::Below => text < value.as_str(),
                    Comparison::Same => text == value,
                }
        };
        let compares = !self.comparisons.is_empty() && self.comparisons.iter().all(holds);
        compares || any(&self.patterns, text, steps)
    }
}

/// Like all that compares here, it finds something where the steps are spent: then nothing else is looked at.
fn any(patterns: &[Pattern], text: &str, steps: &Steps) -> bool {
    let matches = |pattern: &Pattern| pattern.matches(text, steps);
    patterns.iter().any(matches)
}

/// What queries ask for, by the fields that they are about.
#[derive(Debug, Default)]
struct Asked {
    names: Vec<Pattern>,
    versions: Compared,
    skills: Classes,
    domains: Classes,
    modules: Classes,
    locator_types: Vec<Pattern>,
    locator_urls: Vec<Pattern>,
    created: Compared,
    authors: Vec<Pattern>,
    schema_versions: Compared,
    annotation_keys: Vec<Pattern>,
    annotation_values: Vec<Pattern>,
    descriptions: Vec<Pattern>,
}

#[derive(Debug, Default)]
struct Classes {
    ids: Vec<u64>,
    names: Vec<Pattern>,
}

impl Classes {
    fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.names.is_empty()
    }

    fn has_id(&self, one: &Class, steps: &Steps) -> bool {
        !steps.take(self.ids.len()) || self.ids.contains(&one.id.unwrap_or_default().into())
    }

    fn has_name(&self, one: &Class, steps: &Steps) -> bool {
        any(&self.names, text(&one.name), steps)
    }

    /// One of them has both an ID and a name of these.
    fn wants(&self, all: &[Class], steps: &Steps) -> bool {
        let fits = |one: &Class| {
            (self.ids.is_empty() || self.has_id(one, steps))
                && (self.names.is_empty() || self.has_name(one, steps))
        };
        self.is_empty() || all.iter().any(fits)
    }

    /// One of them has an ID or a name of these.
    fn excludes(&self, all: &[Class], steps: &Steps) -> bool {
        let is_one = |one: &Class| self.has_id(one, steps) || self.has_name(one, steps);
        all.iter().any(is_one)
    }
}

/// Whether patterns for the two parts of something find it: those that are there.
fn both(first: &[Pattern], second: &[Pattern], texts: (&str, &str), steps: &Steps) -> bool {
    (first.is_empty() || any(first, texts.0, steps))
        && (second.is_empty() || any(second, texts.1, steps))
}

impl Asked {
    fn asks_for_locators(&self) -> bool {
        !self.locator_types.is_empty() || !self.locator_urls.is_empty()
    }

    fn has_locator(&self, meta: &RecordMeta, searched: &Searched, steps: &Steps) -> bool {
        searched.locators.iter().any(|one| {
            let texts = (text(&one.r#type), one.url(&meta.schema_version));
            both(&self.locator_types, &self.locator_urls, texts, steps)
        })
    }

    fn asks_for_annotations(&self) -> bool {
        !self.annotation_keys.is_empty() || !self.annotation_values.is_empty()
    }

    fn has_annotation(&self, meta: &RecordMeta, steps: &Steps) -> bool {
        let mut all = meta.annotations.iter();
        let (keys, values) = (&self.annotation_keys, &self.annotation_values);
        all.any(|(key, value)| both(keys, values, (key, value), steps))
    }

    fn has_author(&self, searched: &Searched, steps: &Steps) -> bool {
        let authors = searched.authors.as_deref();
        authors.is_some_and(|authors| any(&self.authors, authors, steps))
    }

    fn want(&self, meta: &RecordMeta, searched: &Searched, steps: &Steps) -> bool {
        (self.names.is_empty() || any(&self.names, &searched.name, steps))
            && (self.versions.is_empty() || self.versions.matches(&searched.version, steps))
            && self.skills.wants(&searched.skills, steps)
            && self.domains.wants(&searched.domains, steps)
            && self.modules.wants(&searched.modules, steps)
            && (!self.asks_for_locators() || self.has_locator(meta, searched, steps))
            && (self.created.is_empty() || self.created.matches(&meta.created_at, steps))
            && (self.authors.is_empty() || self.has_author(searched, steps))
            && (self.schema_versions.is_empty()
                || self.schema_versions.matches(&meta.schema_version, steps))
            && (!self.asks_for_annotations() || self.has_annotation(meta, steps))
            && (self.descriptions.is_empty()
                || any(&self.descriptions, &searched.description, steps))
    }

    fn exclude(&self, meta: &RecordMeta, searched: &Searched, steps: &Steps) -> bool {
        any(&self.names, &searched.name, steps)
            || self.versions.matches(&searched.version, steps)
            || self.skills.excludes(&searched.skills, steps)
            || self.domains.excludes(&searched.domains, steps)
            || self.modules.excludes(&searched.modules, steps)
            || (self.asks_for_locators() && self.has_locator(meta, searched, steps))
            || self.created.matches(&meta.created_at, steps)
            || self.has_author(searched, steps)
            || self.schema_versions.matches(&meta.schema_version, steps)
            || (self.asks_for_annotations() && self.has_annotation(meta, steps))
            || any(&self.descriptions, &searched.description, steps)
    }
}

/// What queries find. Those of one type are alternatives, and a record must match all types.
#[derive(Debug, Default)]
pub(super) struct Filters {
    wanted: Asked,
    excluded: Asked,
    verified: bool,
    trusted: bool,
    /// They ask for what no record of an embedded store has.
    find_nothing: bool,
    /// They are about what the records say, and not all ignored.
    pub(super) read_records: bool,
}

impl Filters {
    /// `release_1_2`: as server 1.2.0 reads them.
    pub(super) fn new(queries: &[RecordQuery], release_1_2: bool) -> Result<Self, Status> {
        let mut filters = Self::default();
        for query in queries {
            match release_1_2 {
                true if query.r#type > RecordQueryType::Trusted.into() => {}
                true => filters.add(query, false)?,
                false => filters.add(query, query.negate)?,
            }
        }
        Ok(filters)
    }

    fn add(&mut self, query: &RecordQuery, negate: bool) -> Result<(), Status> {
        use RecordQueryType as Type;

        let value = query.value.as_str();
        let is_blank = value.trim().is_empty();
        let asked = match negate {
            true => &mut self.excluded,
            false => &mut self.wanted,
        };
        let is_true = value.eq_ignore_ascii_case("true") != negate;
        let reads = match query.r#type() {
            Type::Unspecified => false,
            Type::Name => push(&mut asked.names, value),
            Type::Version => {
                asked.versions.add(value);
                true
            }
            Type::SkillId => number(&mut asked.skills.ids, "skill", value)?,
            Type::SkillName => push(&mut asked.skills.names, value),
            Type::Locator => add_locator(asked, value),
            Type::ModuleName => !is_blank && push(&mut asked.modules.names, value),
            Type::DomainId => number(&mut asked.domains.ids, "domain", value)?,
            Type::DomainName => push(&mut asked.domains.names, value),
            Type::CreatedAt => {
                asked.created.add(value);
                true
            }
            // Anywhere in the array.
            Type::Author => push(&mut asked.authors, &format!("*{value}*")),
            Type::SchemaVersion => {
                asked.schema_versions.add(value);
                true
            }
            Type::ModuleId => number(&mut asked.modules.ids, "module", value)?,
            // The last one counts.
            Type::Verified => {
                self.verified = is_true;
                false
            }
            Type::Trusted => {
                self.trusted = is_true;
                false
            }
            Type::Annotation => add_annotation(asked, value),
            Type::Description => !is_blank && push(&mut asked.descriptions, value),
            Type::ScanSeverity => {
                let names = ["NONE", "INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
                let is_known = names.iter().any(|name| name.eq_ignore_ascii_case(value));
                self.find_nothing |= is_known && !negate;
                false
            }
            // Whether it is safe or not, it has been scanned.
            Type::ScanSafe => {
                self.find_nothing = true;
                false
            }
            Type::ScanStatus
            | Type::ScanFailureReason
            | Type::Identity
            | Type::Owner
            | Type::IdentityVerified
            | Type::OwnerVerified => {
                self.find_nothing |= !negate;
                false
            }
        };
        self.read_records |= reads;
        Ok(())
    }

    /// What it says where the steps are spent means nothing.
    pub(super) fn find(&self, meta: &RecordMeta, searched: &Searched, steps: &Steps) -> bool {
        !self.find_nothing
            && !self.verified
            && !self.trusted
            && self.wanted.want(meta, searched, steps)
            && !self.excluded.exclude(meta, searched, steps)
    }
}

fn push(patterns: &mut Vec<Pattern>, value: &str) -> bool {
    patterns.push(Pattern::new(value));
    true
}

/// As Go reads it.
fn number(numbers: &mut Vec<u64>, what: &str, value: &str) -> Result<bool, Status> {
    let is_digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let reason = match value.parse() {
        Ok(number) if is_digits => {
            numbers.push(number);
            return Ok(true);
        }
        _ if is_digits => "value out of range",
        _ => "invalid syntax",
    };
    Err(Status::unknown(format!(
        "failed to create filter options: failed to parse {what} ID {value:?}: \
         strconv.ParseUint: parsing {value:?}: {reason}"
    )))
}

/// `type`, `type:url`, `:url`, or a URL that begins with a wildcard.
fn add_locator(asked: &mut Asked, value: &str) -> bool {
    let is_url = match value.split_once(':') {
        None => value.starts_with('*'),
        Some((before, after)) => before.starts_with('*') && after.starts_with("//"),
    };
    if is_url {
        return push(&mut asked.locator_urls, value);
    }
    let (kind, url) = value.split_once(':').unwrap_or((value, ""));
    let has_kind = !kind.trim().is_empty() && push(&mut asked.locator_types, kind);
    let has_url = !url.trim().is_empty() && push(&mut asked.locator_urls, url);
    has_kind || has_url
}

/// `key` or `key:value`.
fn add_annotation(asked: &mut Asked, value: &str) -> bool {
    let (key, value) = match value.split_once(':') {
        Some(("", _)) => return false,
        Some(parts) => parts,
        None => (value, ""),
    };
    push(&mut asked.annotation_keys, key);
    if !value.is_empty() {
        push(&mut asked.annotation_values, value);
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn searched(text: &str) -> Option<Searched> {
        Searched::of(&text.parse().unwrap())
    }

    fn finds(kind: RecordQueryType, value: &str, meta: &RecordMeta, text: &str) -> bool {
        let query = RecordQuery {
            r#type: kind.into(),
            value: value.to_owned(),
            negate: false,
        };
        let filters = Filters::new(&[query], false).unwrap();
        filters.find(meta, &searched(text).unwrap(), &Steps::new(1_000))
    }

    fn of_version(version: &str) -> RecordMeta {
        RecordMeta {
            schema_version: version.to_owned(),
            ..RecordMeta::default()
        }
    }

    #[test]
    fn types_are_those_of_oasf_or_nothing_is_kept() {
        for text in [
            r#"{}"#,
            r#"{"name": null, "skills": null, "authors": null}"#,
            r#"{"skills": [null], "authors": [null], "locators": [null]}"#,
            r#"{"skills": [{"id": 4294967295, "name": null, "more": 1}]}"#,
            r#"{"locators": [{"urls": []}, {"urls": [null]}]}"#,
        ] {
            assert!(searched(text).is_some(), "{text}");
        }
        for text in [
            r#"{"name": 1}"#,
            r#"{"authors": "a"}"#,
            r#"{"authors": [1]}"#,
            r#"{"skills": {}}"#,
            r#"{"skills": ["a"]}"#,
            r#"{"skills": [{"id": 1.5}]}"#,
            r#"{"skills": [{"id": -1}]}"#,
            r#"{"skills": [{"id": 4294967296}]}"#,
            r#"{"domains": [{"id": "1"}]}"#,
            r#"{"locators": [{"urls": "a"}]}"#,
        ] {
            assert!(searched(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_url_of_a_locator_is_where_its_release_has_it() {
        let text = r#"{"locators": [{"type": "t", "url": "old", "urls": ["new", "other"]}]}"#;
        for (version, expected) in [
            ("0.7.0", "old"),
            ("0.8.0", "old"),
            ("1.0.0", "new"),
            ("1.1.0", "new"),
            ("1", "new"),
        ] {
            for url in ["old", "new", "other"] {
                let value = format!("t:{url}");
                let found = finds(RecordQueryType::Locator, &value, &of_version(version), text);
                assert_eq!(found, url == expected, "{version} {url}");
            }
        }
    }

    #[test]
    fn authors_are_the_json_that_go_writes() {
        let text = "{\"authors\": [\"a&b\", \"c\u{2028}d\", \"e/f\"]}";
        let searched = searched(text).unwrap();
        let expected = r#"["a\u0026b","c\u2028d","e/f"]"#;
        assert_eq!(searched.authors.as_deref(), Some(expected));
    }

    #[test]
    fn labels_are_in_the_order_of_their_release() {
        let text = r#"{
            "skills": [{"name": "s"}, {"name": "s/t"}],
            "domains": [{"name": "d"}],
            "modules": [{}],
            "locators": [{"type": "l", "urls": ["u"]}]
        }"#;
        let searched = searched(text).unwrap();
        let skills = ["/skills/s", "/skills/s/t"];
        let before = [&skills[..], &["/domains/d", "/modules/", "/locators/l"]].concat();
        let later = [&["/domains/d", "/locators/l", "/modules/"], &skills[..]].concat();
        assert_eq!(searched.labels("0.7.0"), before);
        for version in ["0.8.0", "1.0.0", "1"] {
            assert_eq!(searched.labels(version), later);
        }
    }

    #[test]
    fn versions_are_compared_as_text() {
        let text = r#"{"version": "9"}"#;
        for (value, expected) in [
            (">=9", true),
            (">9", false),
            (">10", true),
            ("<=8", false),
            ("<9.0", true),
            ("=9", true),
            ("=?", false),
            ("?", true),
            (">", true),
            ("", false),
        ] {
            let found = finds(
                RecordQueryType::Version,
                value,
                &RecordMeta::default(),
                text,
            );
            assert_eq!(found, expected, "{value}");
        }
    }
}
