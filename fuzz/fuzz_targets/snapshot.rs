#![no_main]
//! The target `snapshot` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("snapshot", data));
