//! Stands in for Replicate: the same HTTP, so that the official clients cannot tell; pictures that are
//! really transformed; and every misbehaviour that is known of the real one, on command.

mod account;
mod api;
mod catalogue;
mod cells;
mod clock;
mod config;
mod control;
mod faults;
mod files;
mod input;
mod noise;
mod output;
mod palette;
mod picture;
mod prediction;
mod problem;
mod render;
mod run;
mod sandbox;
mod smooth;
mod style;
mod tint;
mod webhook;

use std::sync::Arc;
use std::{env, io, thread};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::sandbox::Sandbox;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(false).init();

    let config = Config::from_env()?;
    let listener = TcpListener::bind(&config.address).await?;
    tracing::info!(address = config.address, "listening");
    let sandbox = Arc::new(Sandbox::new(config));
    let router = Router::new()
        .route("/health", get(|| async { "ok" }))
        .nest("/v1", api::router().merge(files::router()).merge(account::router()))
        .merge(output::router())
        .nest("/_sandbox", control::router())
        .fallback(problem::not_found)
        .with_state(sandbox);
    axum::serve(listener, router).with_graceful_shutdown(ended()).await?;
    Ok(())
}

/// By a signal, or when whoever started this is gone.
async fn ended() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
        () = stdin_closed(), if env::var("EXIT_WITH_STDIN").is_ok_and(|value| value == "1") => {}
    }
}

/// Read by a thread of its own: a reading task would keep the runtime from ending.
async fn stdin_closed() {
    let (closed, told) = oneshot::channel();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = closed.send(());
    });
    let _ = told.await;
}
