//! Receives Replicate's webhook events about predictions.

mod handler;

pub use handler::routes;
