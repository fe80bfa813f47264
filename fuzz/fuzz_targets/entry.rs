#![no_main]
//! The target `entry` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("entry", data));
