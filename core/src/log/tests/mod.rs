//! The log against a disk that loses whatever was not synced, and against damage.

mod crashes;
mod damage;
mod disk;
mod model;
