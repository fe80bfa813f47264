#![no_main]
//! The target `sessions` under libFuzzer.

libfuzzer_sys::fuzz_target!(|data: &[u8]| dtask_fuzz::run("sessions", data));
