//! Helpers of the real-process tests.
