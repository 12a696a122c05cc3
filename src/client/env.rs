//! A client as the environment describes it, by the variables that all DIR clients read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;

use http::uri::Scheme;
use tracing::warn;

#[cfg(feature = "tls")]
use super::pem::Pem;
#[cfg(feature = "tls")]
use super::tls::Identity;
use super::{Client, ClientBuilder, Token};
use crate::LOG;
use crate::error::Error;
use crate::escape::Escaped;

/// What all of the variables begin with.
const PREFIX: &str = "DIRECTORY_CLIENT_";

/// Where a server is if nothing says so.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8888";

impl Client {
    /// Connects as the environment says: [`ClientBuilder::from_env`], and [`connect`](ClientBuilder::connect).
    ///
    /// # Errors
    ///
    /// As of both.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    ///
    /// ```no_run
    /// use agntcy_dir_stream::Client;
    ///
    /// # async fn example() -> Result<(), agntcy_dir_stream::Error> {
    /// let client = Client::from_env().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_env() -> Result<Self, Error> {
        ClientBuilder::from_env()?.connect().await
    }
}

impl ClientBuilder {
    /// A client as the environment describes it, to be set up further. The variables are those of DIR's own clients;
    /// what is empty counts as not set.
    ///
    /// | variable | what it has | read in the modes |
    /// |---|---|---|
    /// | `DIRECTORY_CLIENT_SERVER_ADDRESS` | a URL, or a host and a port: `127.0.0.1:8888` if it is not set. Without a scheme it is `http` in the empty mode, and `https` in the others | all |
    /// | `DIRECTORY_CLIENT_AUTH_MODE` | empty, `tls`, `oidc`, `x509` or `jwt` | |
    /// | `DIRECTORY_CLIENT_TLS_CA_FILE` | [`ca_file`](Self::ca_file); else the system's CAs are trusted | empty with `https`, `tls`, `oidc` |
    /// | `DIRECTORY_CLIENT_TLS_CERT_FILE`, `DIRECTORY_CLIENT_TLS_KEY_FILE` | [`client_certificate_files`](Self::client_certificate_files); both or none | `tls` |
    /// | `DIRECTORY_CLIENT_TLS_SERVER_NAME` | [`server_name`](Self::server_name) | empty with `https`, `tls`, `oidc` |
    /// | `DIRECTORY_CLIENT_AUTH_TOKEN` | a [token](Self::token), which has to be there | `oidc` |
    /// | `DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH` | where the Workload API is; else `SPIFFE_ENDPOINT_SOCKET` says it | `x509`, `jwt` |
    /// | `DIRECTORY_CLIENT_JWT_AUDIENCE` | the audience of JWT SVIDs, which has to be there | `jwt` |
    ///
    /// The modes but the empty one take the feature `tls`, and `x509` and `jwt` the feature `spiffe`. No other variables
    /// are read, and the log has a warning for each that is set and not read: this crate opens no browser for a login. A token of some minutes is better asked for by
    /// [`Token::from_fn`] or [`Token::file`].
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::ErrorKind::Invalid) names the variable and says what to do.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_env_with(None)
    }

    /// [`from_env`](Self::from_env) for the server behind this URL, in place of `DIRECTORY_CLIENT_SERVER_ADDRESS`: such as one
    /// from a command line. The environment's identity, a token or certificate, goes there.
    ///
    /// ```no_run
    /// use agntcy_dir_stream::{Client, ClientBuilder};
    ///
    /// # async fn example() -> Result<Client, agntcy_dir_stream::Error> {
    /// let client = ClientBuilder::from_env_at("https://dir.example.org:8888")?.connect().await?;
    /// # Ok(client)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As of `from_env`, and for the URL as of [`Client::connect`].
    pub fn from_env_at(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::from_env_with(Some(url.as_ref()))
    }

    fn from_env_with(url: Option<&str>) -> Result<Self, Error> {
        let variables = Variables::of(|name| env::var_os(name));
        let client = from(&variables, url)?;
        let is_set = |value: &OsString| !value.to_string_lossy().trim().is_empty();
        let set = env::vars_os().filter(|(_, value)| is_set(value));
        for variable in variables.not_read(set.map(|(name, _)| name)) {
            warn!(target: LOG, variable, "the variable is set, and is not read in this mode");
        }
        Ok(client)
    }
}

/// The variables.
struct Variables<F> {
    get: F,
    /// The names of those that were asked for.
    read: RefCell<BTreeSet<String>>,
}

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    fn of(get: F) -> Self {
        let read = RefCell::default();
        Self { get, read }
    }

    /// One of DIR's, by the end of its name.
    fn get(&self, name: &str) -> Result<Option<String>, Error> {
        self.whole(&format!("{PREFIX}{name}"))
    }

    fn whole(&self, name: &str) -> Result<Option<String>, Error> {
        self.read.borrow_mut().insert(name.to_owned());
        let Some(value) = (self.get)(name) else {
            return Ok(None);
        };
        let Ok(value) = value.into_string() else {
            return Err(Error::invalid(format!("{name} is not in UTF-8")));
        };
        let value = value.trim();
        Ok((!value.is_empty()).then(|| value.to_owned()))
    }

    /// Those of DIR's, in alphabetical order, that are set and were not asked for.
    fn not_read(&self, set: impl Iterator<Item = OsString>) -> BTreeSet<String> {
        let names = set.filter_map(|name| name.into_string().ok());
        let read = self.read.borrow();
        names
            .filter(|name| name.starts_with(PREFIX) && !read.contains(name))
            .collect()
    }

    fn required(&self, name: &str, mode: &str, what: &str) -> Result<String, Error> {
        self.get(name)?.ok_or_else(|| {
            Error::invalid(format!(
                "{PREFIX}{name} is not set: {PREFIX}AUTH_MODE={mode} takes {what} there"
            ))
        })
    }
}

fn from<F>(variables: &Variables<F>, url: Option<&str>) -> Result<ClientBuilder, Error>
where
    F: Fn(&str) -> Option<OsString>,
{
    let mode = variables.get("AUTH_MODE")?.unwrap_or_default();
    let feature = match mode.as_str() {
        "" => None,
        "tls" | "oidc" => (!cfg!(feature = "tls")).then_some("tls"),
        "x509" | "jwt" => (!cfg!(feature = "spiffe")).then_some("spiffe"),
        _ => {
            return Err(Error::invalid(format!(
                "{PREFIX}AUTH_MODE is `{}`: it may be empty, tls, oidc, x509 or jwt",
                Escaped(&mode)
            )));
        }
    };
    if let Some(feature) = feature {
        return Err(Error::invalid(format!(
            "{PREFIX}AUTH_MODE={mode} takes the feature `{feature}`, and this program was built without it"
        )));
    }
    let address = variables.get("SERVER_ADDRESS")?;
    let (whence, url) = match (url, address) {
        (Some(url), _) => ("the URL".to_owned(), url.to_owned()),
        (None, address) => {
            let address = address.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
            let url = match (address.contains("://"), mode.as_str()) {
                (true, _) => address,
                (false, "") => format!("http://{address}"),
                (false, _) => format!("https://{address}"),
            };
            (format!("{PREFIX}SERVER_ADDRESS"), url)
        }
    };
    let origin = super::origin::origin(&url)
        .map_err(|error| Error::invalid(format!("{whence}: {}", in_short(&error))))?;
    let is_plain = origin.scheme() == Some(&Scheme::HTTP);
    if is_plain && !mode.is_empty() {
        return Err(Error::invalid(format!(
            "{whence} begins with http://, and {PREFIX}AUTH_MODE={mode} takes https://"
        )));
    }
    let client = Client::builder(&url);
    match mode.as_str() {
        "" if is_plain => Ok(client),
        "tls" => with_certificate(with_tls(client, variables)?, variables),
        "oidc" => {
            let token = variables.required("AUTH_TOKEN", "oidc", "an access token")?;
            if token.contains(char::is_whitespace) {
                return Err(Error::invalid(format!(
                    "{PREFIX}AUTH_TOKEN has white space in it: it is the token alone, without `Bearer`"
                )));
            }
            Ok(with_tls(client, variables)?.token(Token::new(token)))
        }
        "x509" | "jwt" => with_spiffe(client, variables, &mode),
        _ => with_tls(client, variables),
    }
}

/// What an error says, without its class.
fn in_short(error: &Error) -> String {
    let words = error.to_string();
    let class = format!("{}: ", error.kind());
    words.strip_prefix(&class).unwrap_or(&words).to_owned()
}

#[cfg(feature = "tls")]
fn with_tls<F>(mut client: ClientBuilder, variables: &Variables<F>) -> Result<ClientBuilder, Error>
where
    F: Fn(&str) -> Option<OsString>,
{
    if let Some(path) = variables.get("TLS_CA_FILE")? {
        client = client.trust(Pem::file_of("DIRECTORY_CLIENT_TLS_CA_FILE", path));
    }
    if let Some(name) = variables.get("TLS_SERVER_NAME")? {
        client = client.server_name(name);
    }
    Ok(client)
}

#[cfg(feature = "tls")]
fn with_certificate<F>(
    client: ClientBuilder,
    variables: &Variables<F>,
) -> Result<ClientBuilder, Error>
where
    F: Fn(&str) -> Option<OsString>,
{
    let (certificate, key) = ("TLS_CERT_FILE", "TLS_KEY_FILE");
    match (variables.get(certificate)?, variables.get(key)?) {
        (Some(certificate), Some(key)) => Ok(client.identify(Identity {
            certificate: Pem::file_of("DIRECTORY_CLIENT_TLS_CERT_FILE", certificate),
            key: Pem::file_of("DIRECTORY_CLIENT_TLS_KEY_FILE", key),
        })),
        (None, None) => Ok(client),
        (is_set, _) => {
            let (set, missing) = match is_set {
                Some(_) => (certificate, key),
                None => (key, certificate),
            };
            Err(Error::invalid(format!(
                "{PREFIX}{set} is set and {PREFIX}{missing} is not: a client certificate takes both"
            )))
        }
    }
}

// Without the feature, the mode was refused.
#[cfg(not(feature = "tls"))]
fn with_tls<F>(client: ClientBuilder, _: &Variables<F>) -> Result<ClientBuilder, Error> {
    Ok(client)
}

#[cfg(not(feature = "tls"))]
fn with_certificate<F>(client: ClientBuilder, _: &Variables<F>) -> Result<ClientBuilder, Error> {
    Ok(client)
}

#[cfg(feature = "spiffe")]
fn with_spiffe<F>(
    client: ClientBuilder,
    variables: &Variables<F>,
    mode: &str,
) -> Result<ClientBuilder, Error>
where
    F: Fn(&str) -> Option<OsString>,
{
    use super::Spiffe;

    let mut spiffe = match mode {
        "jwt" => Spiffe::jwt(variables.required("JWT_AUDIENCE", "jwt", "an audience")?),
        _ => Spiffe::x509(),
    };
    let (ours, theirs) = (
        format!("{PREFIX}SPIFFE_SOCKET_PATH"),
        "SPIFFE_ENDPOINT_SOCKET",
    );
    let (variable, socket) = match (variables.whole(&ours)?, variables.whole(theirs)?) {
        (Some(socket), _) => (ours.as_str(), socket),
        (None, Some(socket)) => (theirs, socket),
        (None, None) => {
            return Err(Error::invalid(format!(
                "{ours} is not set: {PREFIX}AUTH_MODE={mode} takes the socket of the \
                 Workload API there, such as unix:///run/spire/agent.sock"
            )));
        }
    };
    spiffe = spiffe.socket(socket);
    if let Some(wrong) = spiffe.wrong() {
        return Err(Error::invalid(format!("{variable}: {wrong}")));
    }
    Ok(client.spiffe(spiffe))
}

#[cfg(not(feature = "spiffe"))]
fn with_spiffe<F>(
    client: ClientBuilder,
    _: &Variables<F>,
    _: &str,
) -> Result<ClientBuilder, Error> {
    Ok(client)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A client of these variables, by the ends of their names.
    fn of(variables: &[(&str, &str)]) -> Result<ClientBuilder, Error> {
        from(&these(variables), None)
    }

    fn these(variables: &[(&str, &str)]) -> Variables<impl Fn(&str) -> Option<OsString>> {
        Variables::of(move |name| {
            let known = |(end, _): &&(&str, &str)| name == format!("{PREFIX}{end}") || name == *end;
            let (_, value) = variables.iter().find(known)?;
            Some(value.into())
        })
    }

    #[track_caller]
    fn assert_says(variables: &[(&str, &str)], words: &str) {
        let error = of(variables).unwrap_err().to_string();
        assert_eq!(error, format!("invalid: {words}"));
    }

    #[test]
    fn without_variables_it_is_the_server_on_this_machine_in_plain() {
        for variables in [&[][..], &[("AUTH_MODE", " "), ("SERVER_ADDRESS", "")]] {
            assert_eq!(of(variables).unwrap().url(), "http://127.0.0.1:8888");
        }
    }

    #[test]
    fn an_address_without_a_scheme_has_that_of_the_mode() {
        for (variables, url) in [
            (&[("SERVER_ADDRESS", "dir:1")][..], "http://dir:1"),
            (&[("SERVER_ADDRESS", "https://dir:1")], "https://dir:1"),
            #[cfg(feature = "tls")]
            (
                &[("SERVER_ADDRESS", "dir:1"), ("AUTH_MODE", "tls")],
                "https://dir:1",
            ),
        ] {
            if cfg!(feature = "tls") || !url.starts_with("https") {
                assert_eq!(of(variables).unwrap().url(), url);
            }
        }
    }

    #[test]
    fn another_url_takes_the_place_of_the_address() {
        let variables = [("SERVER_ADDRESS", "elsewhere:1")];
        let at = |url| from(&these(&variables), Some(url));
        assert_eq!(at("http://here:2").unwrap().url(), "http://here:2");
        let error = at("here:2").unwrap_err().to_string();
        assert!(error.starts_with("invalid: the URL: "), "{error}");
        #[cfg(feature = "tls")]
        {
            let variables = these(&[("AUTH_MODE", "oidc"), ("AUTH_TOKEN", "token")]);
            let error = from(&variables, Some("http://here:2"))
                .unwrap_err()
                .to_string();
            let words = "invalid: the URL begins with http://, and DIRECTORY_CLIENT_AUTH_MODE=oidc takes https://";
            assert_eq!(error, words);
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn what_is_wrong_is_said_by_the_variables_name() {
        assert_says(
            &[("AUTH_MODE", "ouath")],
            "DIRECTORY_CLIENT_AUTH_MODE is `ouath`: it may be empty, tls, oidc, x509 or jwt",
        );
        assert_says(
            &[("SERVER_ADDRESS", "http://dir/path")],
            "DIRECTORY_CLIENT_SERVER_ADDRESS: not a URL such as http://127.0.0.1:8888: a path is not used",
        );
        assert_says(
            &[("AUTH_MODE", "oidc")],
            "DIRECTORY_CLIENT_AUTH_TOKEN is not set: DIRECTORY_CLIENT_AUTH_MODE=oidc takes an access token there",
        );
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_mode_and_an_http_url_do_not_go_together() {
        for mode in ["tls", "oidc"] {
            assert_says(
                &[("SERVER_ADDRESS", "http://dir:1"), ("AUTH_MODE", mode)],
                &format!(
                    "DIRECTORY_CLIENT_SERVER_ADDRESS begins with http://, and DIRECTORY_CLIENT_AUTH_MODE={mode} takes https://"
                ),
            );
        }
        assert_says(
            &[("AUTH_MODE", "oidc"), ("AUTH_TOKEN", "Bearer SECRET")],
            "DIRECTORY_CLIENT_AUTH_TOKEN has white space in it: it is the token alone, without `Bearer`",
        );
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_mode_that_this_program_cannot_have_is_said() {
        assert_says(
            &[("AUTH_MODE", "tls"), ("SERVER_ADDRESS", "dir:1")],
            "DIRECTORY_CLIENT_AUTH_MODE=tls takes the feature `tls`, and this program was built without it",
        );
    }

    /// Of some that are set, the ends of the names of those that are not read in a mode.
    fn not_read(mode: &str) -> Vec<String> {
        let set = [
            ("TLS_CERT_FILE", "/client.pem"),
            ("TLS_KEY_FILE", "/client.key"),
            ("AUTH_TOKEN", "token"),
            ("TLS_CA_FILE", "/ca.pem"),
            ("AUTHMODE", "tls"),
            ("AUTH_MODE", mode),
        ];
        let variables = these(&set);
        let _ = from(&variables, None).unwrap();
        let names = set.iter().map(|(end, _)| format!("{PREFIX}{end}").into());
        let not_read = variables.not_read(names.chain(["HOME".into()]));
        not_read
            .iter()
            .map(|name| name.replace(PREFIX, ""))
            .collect()
    }

    #[test]
    fn what_is_set_and_not_read_is_found() {
        #[cfg(feature = "tls")]
        assert_eq!(not_read("tls"), ["AUTHMODE", "AUTH_TOKEN"]);
        #[cfg(feature = "tls")]
        assert_eq!(
            not_read("oidc"),
            ["AUTHMODE", "TLS_CERT_FILE", "TLS_KEY_FILE"]
        );
        let all = [
            "AUTHMODE",
            "AUTH_TOKEN",
            "TLS_CA_FILE",
            "TLS_CERT_FILE",
            "TLS_KEY_FILE",
        ];
        assert_eq!(not_read(""), all);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_takes_a_ca_a_name_and_both_or_none_of_certificate_and_key() {
        let both = [
            ("AUTH_MODE", "tls"),
            ("TLS_CA_FILE", "/ca.pem"),
            ("TLS_CERT_FILE", "/client.pem"),
            ("TLS_KEY_FILE", "/client.key"),
            ("TLS_SERVER_NAME", "dir.example.org"),
        ];
        let shown = format!("{:?}", of(&both).unwrap());
        for part in ["`/ca.pem`", "`/client.pem`", "dir.example.org"] {
            assert!(shown.contains(part), "{shown}");
        }
        assert!(of(&both[..2]).is_ok());
        assert_says(
            &both[..3],
            "DIRECTORY_CLIENT_TLS_CERT_FILE is set and DIRECTORY_CLIENT_TLS_KEY_FILE is not: \
             a client certificate takes both",
        );
        assert_says(
            &[both[0], both[3]],
            "DIRECTORY_CLIENT_TLS_KEY_FILE is set and DIRECTORY_CLIENT_TLS_CERT_FILE is not: \
             a client certificate takes both",
        );
        // A URL says it, too, whatever the mode.
        let empty = [("SERVER_ADDRESS", "https://dir"), both[1]];
        assert!(format!("{:?}", of(&empty).unwrap()).contains("`/ca.pem`"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn an_access_token_is_taken_and_not_shown() {
        let builder = of(&[("AUTH_MODE", "oidc"), ("AUTH_TOKEN", "SECRET")]).unwrap();
        let shown = format!("{builder:?}");
        assert!(
            shown.contains("Token") && !shown.contains("SECRET"),
            "{shown}"
        );
        assert!(builder.connect_lazy().is_ok());
    }

    #[cfg(feature = "spiffe")]
    #[test]
    fn identities_of_spiffe_take_a_socket_and_an_audience() {
        for mode in ["x509", "jwt"] {
            assert_says(
                &[("AUTH_MODE", mode), ("JWT_AUDIENCE", "dir")],
                &format!(
                    "DIRECTORY_CLIENT_SPIFFE_SOCKET_PATH is not set: DIRECTORY_CLIENT_AUTH_MODE={mode} takes \
                     the socket of the Workload API there, such as unix:///run/spire/agent.sock"
                ),
            );
            for socket in ["SPIFFE_SOCKET_PATH", "SPIFFE_ENDPOINT_SOCKET"] {
                let variables = [
                    ("AUTH_MODE", mode),
                    ("JWT_AUDIENCE", "dir"),
                    (socket, "/a.sock"),
                ];
                assert!(of(&variables).is_ok());
            }
        }
        assert_says(
            &[("AUTH_MODE", "jwt"), ("SPIFFE_SOCKET_PATH", "/a.sock")],
            "DIRECTORY_CLIENT_JWT_AUDIENCE is not set: DIRECTORY_CLIENT_AUTH_MODE=jwt takes an audience there",
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_text_is_named() {
        use std::os::unix::ffi::OsStringExt as _;
        let error = from(
            &Variables::of(|_| Some(OsString::from_vec(vec![0xff]))),
            None,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid: DIRECTORY_CLIENT_AUTH_MODE is not in UTF-8"
        );
    }
}
