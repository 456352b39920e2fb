//! A sandbox that replaces Replicate in tests. It has the same HTTP interface, so the official clients work
//! with it. It transforms pictures for real, and tests can request every known fault of the real service.

mod account;
mod api;
mod catalogue;
mod clock;
mod config;
mod control;
mod create;
mod fate;
mod faults;
mod files;
mod input;
mod limits;
mod output;
mod prediction;
mod problem;
mod received;
mod render;
mod run;
mod sandbox;
mod schema;
mod webhook;

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, io, thread};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::sandbox::{Sandbox, Shared};

/// How long open responses may continue after the sandbox is asked to end.
const PATIENCE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(false).init();

    let config = Config::from_env()?;
    let listener = TcpListener::bind(&config.address).await?;
    tracing::info!(address = config.address, "listening");
    let served = axum::serve(listener, router(Arc::new(Sandbox::new(config))));

    // Clients that wait for a prediction or a stalled output may delay the end only by [`PATIENCE`].
    let (end, ending) = oneshot::channel();
    let graceful = served.with_graceful_shutdown(async { drop(ending.await) });
    let impatient = async {
        ended().await;
        let _ = end.send(());
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        served = graceful => served?,
        () = impatient => {}
    }
    Ok(())
}

fn router(sandbox: Shared) -> Router {
    let api = api::router().merge(files::router()).merge(account::router());
    Router::new()
        .route("/health", get(|| async { "ok" }))
        .nest("/v1", api.layer(from_fn_with_state(sandbox.clone(), limits::limit)))
        .merge(output::router())
        .nest("/_sandbox", control::router())
        .layer(from_fn(log))
        .fallback(problem::not_found)
        .with_state(sandbox)
}

/// Logs one line per request. It leaves out the path, because a path may contain tokens.
async fn log(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(String::new, |path| path.as_str().to_owned());
    let began = Instant::now();
    let response = next.run(request).await;
    let took = began.elapsed().as_millis();
    tracing::info!(%method, route, status = response.status().as_u16(), took, "answered");
    response
}

/// Resolves on a signal, or when the parent process is gone.
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

/// A separate thread reads standard input, because a task that reads would keep the runtime from ending.
async fn stdin_closed() {
    let (closed, told) = oneshot::channel();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = closed.send(());
    });
    let _ = told.await;
}
