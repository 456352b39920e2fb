//! Receives mail with privacy requests from the mail provider (Q1). It files them; nothing is done on a mail alone.
//! And it hears from the provider which of our letters did not arrive (R10).

mod bounce;
mod event;
mod handler;
mod header;
mod mail;
mod sender;
mod subject;
mod words;

pub use handler::routes;
