//! Receives what Replicate says of its predictions.

mod handler;

pub use handler::routes;
