//! On a schedule: settles what was not heard of, deletes what is due.

mod handler;
mod pass;

pub use handler::routes;
pub use pass::{Report, run};
