// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `handle` and `settle` take can run in a task: it compiles.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sysgenid::{Generation, Result};
use sysgenid_tokio::{AsyncOrchestrator, Watcher};

use crate::scene::{PATIENCE, Scene, threads};

type Done = std::io::Result<()>;

#[derive(Default)]
struct Service {
    key: Mutex<u64>,
    rotations: AtomicU64,
}

impl Service {
    async fn rotate(&self, generation: Generation) -> Done {
        tokio::task::yield_now().await;
        *self.key.lock().unwrap() = generation.get();
        self.rotations.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

async fn rotate_nothing(_: Generation) -> Done {
    Ok(())
}

async fn borrowed(watcher: &Watcher, service: &Service) -> Result<Generation> {
    watcher
        .handle(async |generation| service.rotate(generation).await)
        .await
}

#[test]
fn every_way_to_write_a_rebuild_can_be_spawned() {
    threads().block_on(async {
        let scene = Scene::new();
        let watcher = Arc::new(scene.watcher().await);
        let orchestrator: Arc<AsyncOrchestrator> = Arc::new(scene.orchestrator().await);
        let service = Arc::new(Service::default());
        let turn = || {
            scene.trigger();
            (Arc::clone(&watcher), Arc::clone(&service))
        };

        let (its, service) = turn();
        let task = async move { its.handle(async |it| service.rotate(it).await).await };
        assert_eq!(tokio::spawn(task).await.unwrap().unwrap().get(), 1);

        let (its, service) = turn();
        let task = async move { its.handle(|it| service.rotate(it)).await };
        assert_eq!(tokio::spawn(task).await.unwrap().unwrap().get(), 2);

        let (its, service) = turn();
        let task = async move {
            let rotate = |it| {
                let service = Arc::clone(&service);
                async move { service.rotate(it).await }
            };
            its.handle(rotate).await
        };
        assert_eq!(tokio::spawn(task).await.unwrap().unwrap().get(), 3);

        let (its, _) = turn();
        let task = async move { its.handle(rotate_nothing).await };
        assert_eq!(tokio::spawn(task).await.unwrap().unwrap().get(), 4);

        let (its, _) = turn();
        let task = async move {
            let mut times = 0;
            let counted = its.handle(|_| {
                times += 1;
                async { Done::Ok(()) }
            });
            counted.await.map(|it| (it, times))
        };
        let (generation, times) = tokio::spawn(task).await.unwrap().unwrap();
        assert_eq!((generation.get(), times), (5, 1));

        let (its, service) = turn();
        let task = async move { borrowed(&its, &service).await };
        assert_eq!(tokio::spawn(task).await.unwrap().unwrap().get(), 6);

        let (its, service) = turn();
        let task = async move {
            loop {
                tokio::select! {
                    handled = its.handle(async |it| service.rotate(it).await) => return handled,
                    () = tokio::time::sleep(Duration::from_micros(1)) => {}
                }
            }
        };
        assert_eq!(tokio::spawn(task).await.unwrap().unwrap().get(), 7);

        let (_, service) = turn();
        let task = async move {
            let its = watcher.acknowledge(watcher.generation());
            its?;
            orchestrator
                .settle(PATIENCE, async |it| service.rotate(it).await)
                .await
        };
        assert_eq!(
            tokio::spawn(task).await.unwrap().unwrap().generation.get(),
            8
        );
    });
}
