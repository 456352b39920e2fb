//! Receives emails with privacy requests from the email provider (Q1). It only files them; an email never
//! starts an action on its own. The provider also reports here which of our emails did not arrive (R10).

mod bounce;
mod email;
mod event;
mod handler;
mod header;
mod sender;
mod subject;
mod words;

pub use handler::routes;
