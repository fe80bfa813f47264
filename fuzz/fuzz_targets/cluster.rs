#![no_main]
//! The target `cluster` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("cluster", data));
