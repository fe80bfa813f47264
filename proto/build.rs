//! Compiles `dtask/v1/*.proto` with protox (pure Rust), so that no protoc is needed.

use std::{env, path::PathBuf};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Fallible<()> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files: Vec<PathBuf> = std::fs::read_dir("dtask/v1")?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    println!("cargo:rerun-if-changed=dtask/v1");

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let set = compiler.file_descriptor_set();

    let mut config = prost_build::Config::new();
    config.btree_map(["."]).bytes(["."]);
    if env::var_os("CARGO_FEATURE_GRPC").is_none() {
        config.compile_fds(set)?;
    } else if env::var_os("CARGO_CFG_MADSIM").is_some() {
        let sim = out.join("sim");
        std::fs::create_dir_all(&sim)?;
        config.out_dir(sim);
        config.service_generator(madsim_tonic_build::configure().service_generator());
        config.compile_fds(set)?;
    } else {
        tonic_prost_build::configure()
            .build_transport(false)
            .compile_fds_with_config(set, config)?;
    }
    Ok(())
}
