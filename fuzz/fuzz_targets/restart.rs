#![no_main]
//! The target `restart` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("restart", data));
