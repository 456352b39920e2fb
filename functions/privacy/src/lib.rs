//! What anyone may check: how the promises are kept at this moment, and the keys of deletion receipts.

mod badge;
mod handler;
mod status;

pub use handler::routes;
