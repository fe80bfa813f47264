#![no_main]
//! The target `peer` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("peer", data));
