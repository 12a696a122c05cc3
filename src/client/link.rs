//! A connection of a node, and what each call by it has beside its messages.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::time::Instant;
use tonic::ConnectError;
use tonic::body::Body;

use super::Compression;
use super::renewal::{Refusal, Renewal};
use super::tokens::Tokens;
use super::transport::{Opening, Transport};
use super::way::Way;

#[derive(Clone)]
pub(crate) struct Link {
    transport: Arc<dyn Transport>,
    /// How messages are compressed.
    pub(crate) compression: Option<Compression>,
    headers: Arc<HeaderMap>,
    tokens: Option<Arc<Tokens>>,
    /// What its server has said of these tokens.
    said: Arc<Mutex<Said>>,
}

impl Link {
    pub(super) fn over(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            compression: None,
            headers: Arc::default(),
            tokens: None,
            said: Arc::default(),
        }
    }

    pub(super) fn with_compression(self, compression: Compression) -> Self {
        Self {
            compression: Some(compression),
            ..self
        }
    }

    pub(super) fn with_headers(self, headers: Arc<HeaderMap>) -> Self {
        Self { headers, ..self }
    }

    /// `said` is shared by the links of a node.
    pub(super) fn with_tokens(self, tokens: Arc<Tokens>, said: Arc<Mutex<Said>>) -> Self {
        Self {
            tokens: Some(tokens),
            said,
            ..self
        }
    }

    /// The way to the same server by a connection of its own, if one can be made here.
    pub(super) fn another(&self) -> Option<Self> {
        Some(Self {
            transport: self.transport.another()?,
            ..self.clone()
        })
    }

    /// What its server is called in logs.
    pub(super) fn name(&self) -> String {
        self.transport.name()
    }

    /// Whether others can read what goes by it.
    pub(super) fn is_plain(&self) -> bool {
        self.transport.is_plain()
    }

    /// Opens a call: sends `request`, whose body is the call's outgoing side, and waits for response headers.
    pub(crate) fn open(&self, mut request: http::Request<Body>, way: &Way) -> Opening {
        let headers = self.headers.iter();
        request
            .headers_mut()
            .extend(headers.map(|(name, value)| (name.clone(), value.clone())));
        let Some(tokens) = &self.tokens else {
            return self.transport.open(request, way);
        };
        let (tokens, way) = (Arc::clone(tokens), way.clone());
        let transport = Arc::clone(&self.transport);
        Box::pin(async move {
            way.awaits_token(tokens.source());
            let token = tokens.get().await.map_err(|e| ConnectError(e.into()))?;
            way.shows(token.shown_now(), token.header.clone());
            request.headers_mut().insert(AUTHORIZATION, token.header);
            transport.open(request, &way).await
        })
    }

    /// This call's connection is silent, and may be dead without knowing it: calls to come take another.
    pub(crate) fn leave(&self, way: &Way) {
        self.transport.leave(way);
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server knows who asks by this call, whose path is that of its method.
    pub(crate) fn accepted(&self, way: &Way, path: &'static str) {
        if let Some(token) = way.token() {
            self.said().of(path).accepted(token.number);
        }
    }

    /// The server does not know who asks by this call. Calls to come show another token, if there can be one.
    pub(crate) fn refused(&self, way: &Way, path: &'static str) -> Refusal {
        let Some((tokens, token)) = self.tokens.as_ref().zip(way.token()) else {
            return Refusal::Final;
        };
        if !tokens.forget(token.number) {
            return Refusal::Final;
        }
        self.said().of(path).refused(token, Instant::now())
    }
}

/// What a server has said of tokens, by the path of the method: it may let a caller do one thing, and not another.
#[derive(Debug, Default)]
pub(super) struct Said(Vec<(&'static str, Renewal)>);

impl Said {
    fn of(&mut self, path: &'static str) -> &mut Renewal {
        let known = self.0.iter().position(|(known, _)| *known == path);
        let place = known.unwrap_or_else(|| {
            self.0.push((path, Renewal::default()));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }
}
