//! Code that the functions share. The database makes the decisions and the functions carry them out, so this
//! crate decides little. It reads the configuration, identifies the caller, and has one module for each
//! service that the functions talk to. HTTP requests leave through `egress`.

pub(crate) mod app;
pub(crate) mod artwork;
pub mod caller;
pub mod cause;
pub mod config;
mod cors;
pub mod crash;
pub mod database;
pub mod deletion;
pub mod dispatch;
pub mod egress;
pub mod email;
pub mod erasure;
pub(crate) mod error;
pub mod export;
pub mod lambda;
pub mod mark;
pub mod operator;
pub mod outbox;
pub mod pace;
pub mod prediction;
pub mod problem;
pub mod pseudonym;
pub(crate) mod receipt;
pub mod replicate;
pub mod request;
pub mod secret;
pub mod signature;
pub(crate) mod storage;
pub mod telemetry;
pub(crate) mod zip;

pub use app::App;
pub use error::Error;
