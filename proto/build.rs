//! Compiles the `.proto` files without a protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "highwater/v1/types.proto",
        "highwater/v1/worker.proto",
        "highwater/v1/control.proto",
        "highwater/storage/v1/records.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
