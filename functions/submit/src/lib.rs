//! Creates, cancels and deletes generations at a user's request.

mod ending;
mod handler;
mod submission;

pub use handler::routes;
