//! Compiles `dtask/v1/*.proto` with protox (pure Rust), so that no protoc is needed, and puts
//! the serde attributes of DTask's JSON mapping on the messages of the client API.

use std::fmt::Write as _;
use std::{env, path::PathBuf};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet,
};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// The files whose messages users see; those between our own processes have no JSON.
const CLIENT_API: [&str; 4] = ["types", "task", "admin", "cluster"];

/// Integers that are moments; other names that end in `_at` are too.
const MOMENTS: [&str; 6] =
    ["at", "since", "until", "scheduled_for", "created_after", "created_before"];

/// Integers that are durations.
const DURATIONS: [&str; 9] = [
    "every",
    "catch_up",
    "backoff_base",
    "backoff_max",
    "timeout",
    "retry_after",
    "silent",
    "dedup_window",
    "drain_timeout",
];

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
    if env::var_os("CARGO_FEATURE_JSON").is_some() {
        std::fs::write(out.join("enum_names.rs"), json_attributes(&set, &mut config)?)?;
    }
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

/// Puts serde attributes on messages and fields; returns the source of the enums' names.
fn json_attributes(set: &FileDescriptorSet, config: &mut prost_build::Config) -> Fallible<String> {
    let mut names = String::new();
    for file in set.file.iter().filter(|file| is_client_api(file)) {
        for message in &file.message_type {
            let path = format!(".{}.{}", file.package(), message.name());
            config.message_attribute(&path, "#[derive(serde::Serialize, serde::Deserialize)]");
            config.message_attribute(&path, "#[serde(deny_unknown_fields)]");
            for field in &message.field {
                let attribute = match mapping(message, field) {
                    Some(mapping) => format!("#[serde(default, {mapping})]"),
                    None => "#[serde(default)]".to_owned(),
                };
                config.field_attribute(format!("{path}.{}", field.name()), attribute);
            }
        }
        for descriptor in &file.enum_type {
            write_names(&mut names, descriptor)?;
        }
    }
    Ok(names)
}

fn is_client_api(file: &FileDescriptorProto) -> bool {
    CLIENT_API.iter().any(|name| file.name() == format!("dtask/v1/{name}.proto"))
}

/// How a field whose JSON is not serde's own is written.
fn mapping(message: &DescriptorProto, field: &FieldDescriptorProto) -> Option<String> {
    let name = field.name();
    let module = match field.r#type() {
        Type::Enum => {
            let of = field.type_name().rsplit('.').next()?;
            let list = if field.label() == Label::Repeated { "::list" } else { "" };
            let module = format!("crate::json::names{list}");
            return Some(format!(
                "serialize_with = \"{module}::serialize::<{of}, _>\", \
                 deserialize_with = \"{module}::deserialize::<{of}, _>\""
            ));
        }
        Type::Bytes if message.name() == "LogChunk" => "text",
        Type::Bytes => "value",
        Type::Int64 if MOMENTS.contains(&name) || name.ends_with("_at") => "moment",
        Type::Int64 if DURATIONS.contains(&name) => "duration",
        Type::Int64 => {
            panic!(
                "{}.{name}: say in build.rs whether this is a moment or a duration",
                message.name()
            )
        }
        _ => return None,
    };
    let optional = if field.proto3_optional() { "::optional" } else { "" };
    Some(format!("with = \"crate::json::{module}{optional}\""))
}

/// `WAIT_CODE_NOT_DUE` of `WaitCode` is `not_due`.
fn write_names(out: &mut String, descriptor: &EnumDescriptorProto) -> Fallible<()> {
    let kind = descriptor.name();
    let mut prefix = String::new();
    for c in kind.chars() {
        if c.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(c.to_ascii_uppercase());
    }
    prefix.push('_');
    writeln!(out, "impl Named for crate::v1::{kind} {{")?;
    writeln!(out, "    const NAMES: &'static [(i32, &'static str)] = &[")?;
    for value in descriptor.value.iter().filter(|value| value.number() != 0) {
        let name = value.name().strip_prefix(&prefix).ok_or("an enum value without its prefix")?;
        writeln!(out, "        ({}, \"{}\"),", value.number(), name.to_ascii_lowercase())?;
    }
    writeln!(out, "    ];\n}}")?;
    Ok(())
}
