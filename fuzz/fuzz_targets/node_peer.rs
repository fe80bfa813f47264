#![no_main]
//! The target `node_peer` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("node_peer", data));
