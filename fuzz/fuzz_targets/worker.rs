#![no_main]
//! The target `worker` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("worker", data));
