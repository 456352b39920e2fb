//! Receives mail with privacy requests from the mail provider (Q1). It files them; nothing is done on a mail alone.

mod event;
mod handler;
mod mail;

pub use handler::routes;
