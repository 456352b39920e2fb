//! The scheduled function: it settles jobs whose webhook events did not arrive, dispatches waiting
//! jobs, and deletes what is due.

mod audit;
mod budget;
mod due;
mod handler;
mod removal;
mod report;
mod rights;
mod settle;
mod status;
mod sweep;

pub use handler::{operator_routes, routes};
pub use report::Report;
pub use sweep::run;
