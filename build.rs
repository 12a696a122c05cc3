//! Generates the message types, and the services for the `server` feature.
//! protox compiles the protos, so no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let services = ["agntcy/dir/store/v1/store_service.proto"];
    let descriptors = protox::compile(services, ["proto"])?;
    tonic_prost_build::configure()
        // A record stays bytes: ours replaces the generated message, same wire.
        .extern_path(".agntcy.dir.core.v1.Record", "crate::Record")
        .btree_map(".")
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .compile_fds(descriptors)?;
    // Only their messages: `src/server/unary.rs` and `src/server/listings.rs` are the services.
    let messages = [
        "agntcy/dir/events/v1/event_service.proto",
        "agntcy/dir/routing/v1/publication_service.proto",
        "agntcy/dir/routing/v1/routing_service.proto",
        "agntcy/dir/search/v1/search_service.proto",
    ];
    let descriptors = protox::compile(messages, ["proto"])?;
    tonic_prost_build::configure()
        .extern_path(".agntcy.dir.core.v1.Record", "crate::Record")
        .extern_path(".agntcy.dir.core.v1", "crate::proto::core")
        .btree_map(".")
        .build_server(false)
        .build_client(false)
        .compile_fds(descriptors)?;
    Ok(())
}
