//! Generations as people ask for them: create, cancel, delete.

mod ending;
mod handler;
mod submission;

pub use handler::routes;
