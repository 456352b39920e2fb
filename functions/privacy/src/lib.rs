//! Users' rights and public checks: how the promises are kept, the keys of receipts, and
//! whether an artwork is kept here.

mod badge;
mod handler;
mod kept;
mod mark;
mod rights;
mod status;

pub use handler::routes;
