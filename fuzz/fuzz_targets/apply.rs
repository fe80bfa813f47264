#![no_main]
//! The target `apply` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("apply", data));
