//! A connection of a node, and what each call by it has beside its messages.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tonic::ConnectError;
use tonic::body::Body;

use super::Compression;
use super::token::Tokens;
use super::transport::{Opening, Transport};
use super::way::Way;

#[derive(Clone)]
pub(crate) struct Link {
    transport: Arc<dyn Transport>,
    /// How messages are compressed.
    pub(crate) compression: Option<Compression>,
    headers: Arc<HeaderMap>,
    tokens: Option<Arc<Tokens>>,
}

impl Link {
    pub(super) fn over(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            compression: None,
            headers: Arc::default(),
            tokens: None,
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

    pub(super) fn with_tokens(self, tokens: Arc<Tokens>) -> Self {
        Self {
            tokens: Some(tokens),
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
            way.shows(token.number);
            request.headers_mut().insert(AUTHORIZATION, token.header);
            transport.open(request, &way).await
        })
    }

    /// This call's connection is silent, and may be dead without knowing it: calls to come take another.
    pub(crate) fn leave(&self, way: &Way) {
        self.transport.leave(way);
    }

    /// The server does not know who asks by this call. Returns the number of the token that the call has shown, if calls
    /// to come show another.
    pub(crate) fn renew_token(&self, way: &Way) -> Option<u64> {
        let number = way.token()?;
        self.tokens.as_ref()?.refused(number).then_some(number)
    }
}
