#![no_main]
//! The target `requests` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("requests", data));
