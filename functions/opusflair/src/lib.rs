//! What the functions share. The database decides and the functions carry, so there is little here
//! that decides: configuration, who is calling, one way out for HTTP, and one module for each thing
//! that is spoken to.

pub mod app;
pub mod artwork;
pub mod caller;
pub mod cause;
pub mod config;
pub mod crash;
pub mod database;
pub mod deletion;
pub mod egress;
pub mod erasure;
pub mod errand;
pub mod error;
pub mod export;
pub mod letter;
pub mod mark;
pub mod operator;
pub mod pace;
pub mod prediction;
pub mod problem;
pub mod pseudonym;
pub mod receipt;
pub mod replicate;
pub mod request;
pub mod secret;
pub mod signature;
pub mod storage;
pub mod submission;
pub mod telemetry;
pub mod zip;

pub use app::App;
pub use error::Error;
