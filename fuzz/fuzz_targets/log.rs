#![no_main]
//! The target `log` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("log", data));
