//! The generated messages and the store's service, as `proto/` describes them.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::doc_markdown,
    clippy::must_use_candidate,
    unused
)]

pub(crate) mod agntcy {
    pub(crate) mod dir {
        pub(crate) mod core {
            pub(crate) mod v1 {
                tonic::include_proto!("agntcy.dir.core.v1");
            }
        }
        pub(crate) mod events {
            pub(crate) mod v1 {
                tonic::include_proto!("agntcy.dir.events.v1");
            }
        }
        pub(crate) mod routing {
            pub(crate) mod v1 {
                tonic::include_proto!("agntcy.dir.routing.v1");
            }
        }
        pub(crate) mod search {
            pub(crate) mod v1 {
                tonic::include_proto!("agntcy.dir.search.v1");
            }
        }
        pub(crate) mod store {
            pub(crate) mod v1 {
                tonic::include_proto!("agntcy.dir.store.v1");
            }
        }
    }
}

pub(crate) use agntcy::dir::{
    core::v1 as core, events::v1 as events, routing::v1 as routing, search::v1 as search,
    store::v1 as store,
};
