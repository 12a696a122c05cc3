//! What a DIR server answers to those who publish.

use std::collections::HashSet;

use prost::Message as _;
use tonic::Status;

use super::inner::Inner;
use crate::cid::Cid;
use crate::proto::core::RecordRef;
use crate::proto::events::EventType;
use crate::proto::routing::{
    CreatePublicationResponse, GetPublicationRequest, GetPublicationResponse, PublishRequest,
    RecordQueries, UnpublishRequest, publish_request, unpublish_request,
};
use crate::proto::search::{RecordQuery, SearchRequest};

type Result<T> = std::result::Result<T, Status>;

impl Inner {
    /// Takes whatever it is: what is wrong with it shows only when the worker runs, and to nobody.
    pub(super) fn publish(&self, request: PublishRequest) -> Result<()> {
        can_be_answered(&request)?;
        self.publications.queue(request.request)?;
        Ok(())
    }

    pub(super) fn create_publication(
        &self,
        request: PublishRequest,
    ) -> Result<CreatePublicationResponse> {
        can_be_answered(&request)?;
        let refused = match &request.request {
            None => {
                Some("invalid publish request: must specify record_refs, queries, or all_records")
            }
            Some(publish_request::Request::RecordRefs(refs)) => refs
                .refs
                .is_empty()
                .then_some("record refs cannot be empty"),
            Some(publish_request::Request::Queries(queries)) => queries
                .queries
                .is_empty()
                .then_some("queries cannot be empty"),
        };
        match refused {
            Some(words) => Err(Status::invalid_argument(words)),
            None => Ok(CreatePublicationResponse {
                publication_id: self.publications.queue(request.request)?,
            }),
        }
    }

    pub(super) fn get_publication(
        &self,
        request: GetPublicationRequest,
    ) -> Result<GetPublicationResponse> {
        if request.publication_id.is_empty() {
            return Err(Status::invalid_argument("publication_id cannot be empty"));
        }
        let publication = self.publications.get(&request.publication_id);
        publication
            .ok_or_else(|| Status::unknown("failed to get publication by ID: record not found"))
    }

    pub(super) fn run_publications(&self) {
        self.publications.run(|asked| {
            let (asked, are_valid) = self.asked_to_publish(asked);
            let count = asked.len();
            let mut found = Vec::with_capacity(count);
            for cid in asked.into_iter().flatten() {
                // A real server pulls what it publishes.
                let is_there = self.content.show(&cid, |stored| {
                    self.tell(EventType::RecordPulled, &cid, stored);
                    self.tell(EventType::RecordPublished, &cid, stored);
                });
                if is_there.is_some() {
                    found.push(cid);
                }
            }
            let are_all = are_valid && found.len() == count;
            (found, are_all)
        });
    }

    /// Malformed CIDs are `None`.
    fn asked_to_publish(
        &self,
        asked: Option<publish_request::Request>,
    ) -> (Vec<Option<Cid>>, bool) {
        match asked {
            None => (Vec::new(), false),
            Some(publish_request::Request::RecordRefs(refs)) => {
                let cid = |record_ref: RecordRef| record_ref.cid.parse().ok();
                (refs.refs.into_iter().map(cid).collect(), true)
            }
            Some(publish_request::Request::Queries(queries)) => {
                let found = read(&queries).and_then(|queries| {
                    self.search(&SearchRequest {
                        queries,
                        ..SearchRequest::default()
                    })
                });
                match found {
                    Ok(found) => (found.into_iter().map(Some).collect(), true),
                    Err(_) => (Vec::new(), false),
                }
            }
        }
    }

    /// Those before the first that is missing are done.
    pub(super) fn unpublish(&self, request: UnpublishRequest) -> Result<()> {
        let Some(unpublish_request::Request::RecordRefs(refs)) = request.request else {
            return Err(Status::invalid_argument(
                "unpublish request must specify record_refs",
            ));
        };
        let mut done = HashSet::new();
        for RecordRef { cid: text } in refs.refs {
            if text.is_empty() {
                return Err(Status::invalid_argument(
                    "failed to get record: object reference is required and must have a CID",
                ));
            }
            let cid: Option<Cid> = text.parse().ok();
            // As a real server does, before it looks whether it is published.
            let stored = cid.filter(|cid| self.pull_for_itself(cid).is_some());
            let cid = stored.ok_or_else(|| {
                Status::not_found(format!(
                    "failed to get record: failed to lookup object: record not found: {text}"
                ))
            })?;
            // Once for each record, however often a request names it.
            if done.insert(cid) {
                self.publications.unpublish(&cid);
                self.events
                    .tell(EventType::RecordUnpublished, cid, Vec::new);
            }
        }
        Ok(())
    }
}

fn can_be_answered(request: &PublishRequest) -> Result<()> {
    match &request.request {
        Some(publish_request::Request::Queries(queries)) => read(queries).map(drop),
        _ => Ok(()),
    }
}

fn read(queries: &RecordQueries) -> Result<Vec<RecordQuery>> {
    let read = queries
        .queries
        .iter()
        .map(|query| RecordQuery::decode(query.as_slice()));
    let read: std::result::Result<Vec<_>, _> = read.collect();
    read.map_err(|error| Status::internal(format!("grpc: error unmarshalling request: {error}")))
}
