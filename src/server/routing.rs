//! What a DIR server answers to those who publish.

use tonic::Status;

use super::inner::Inner;
use crate::cid::Cid;
use crate::proto::core::RecordRef;
use crate::proto::routing::{
    CreatePublicationResponse, GetPublicationRequest, GetPublicationResponse, PublishRequest,
    UnpublishRequest, publish_request, unpublish_request,
};

type Result<T> = std::result::Result<T, Status>;

impl Inner {
    /// Takes whatever it is: what is wrong with it shows only when the worker runs, and to nobody.
    pub(super) fn publish(&self, request: PublishRequest) -> Result<()> {
        can_be_answered(&request)?;
        self.publications.queue(request.request);
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
            Some(publish_request::Request::Queries(_)) => Some("queries cannot be empty"),
        };
        match refused {
            Some(words) => Err(Status::invalid_argument(words)),
            None => Ok(CreatePublicationResponse {
                publication_id: self.publications.queue(request.request),
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

    /// Those before the first that is missing are done.
    pub(super) fn unpublish(&self, request: UnpublishRequest) -> Result<()> {
        let Some(unpublish_request::Request::RecordRefs(refs)) = request.request else {
            return Err(Status::invalid_argument(
                "unpublish request must specify record_refs",
            ));
        };
        for RecordRef { cid: text } in refs.refs {
            if text.is_empty() {
                return Err(Status::invalid_argument(
                    "failed to get record: object reference is required and must have a CID",
                ));
            }
            let cid: Option<Cid> = text.parse().ok();
            let stored = cid.filter(|cid| self.content.contains(cid));
            let cid = stored.ok_or_else(|| {
                Status::not_found(format!(
                    "failed to get record: failed to lookup object: record not found: {text}"
                ))
            })?;
            self.publications.unpublish(&cid);
        }
        Ok(())
    }
}

/// The store has no search.
fn can_be_answered(request: &PublishRequest) -> Result<()> {
    match &request.request {
        Some(publish_request::Request::Queries(queries)) if !queries.queries.is_empty() => Err(
            Status::unimplemented("the embedded store does not publish by queries"),
        ),
        _ => Ok(()),
    }
}
