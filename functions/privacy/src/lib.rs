//! The rights of people, and what anyone may check: how the promises are kept, and the keys of receipts.

mod badge;
mod handler;
mod kept;
mod rights;
mod status;

pub use handler::routes;
