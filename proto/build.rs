//! Compiles the `.proto` files without a protoc.

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script where to write by a variable"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "highwater/v1/types.proto",
        "highwater/v1/worker.proto",
        "highwater/v1/control.proto",
        "highwater/storage/v1/records.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(
        out.join("highwater.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
