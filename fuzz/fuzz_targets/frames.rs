#![no_main]
//! The target `frames` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("frames", data));
