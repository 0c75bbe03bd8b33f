use std::convert::Infallible;
use std::time::Duration;

use super::*;

async fn until_told(stop: CancellationToken) -> Result<(), Infallible> {
    stop.cancelled().await;
    Ok(())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test]
async fn a_task_that_fails_ends_the_group_and_is_named() {
    let mut group = TaskGroup::new();
    group.spawn("waits", until_told(group.stop_token()));
    group.spawn("fails", async { Err::<(), _>("no more") });
    let error = group.run().await.unwrap_err();
    assert!(matches!(error, TaskError::Failed { name: "fails", .. }));
    assert!(group.stop_token().is_cancelled());
    let (error, aborted) = group.shutdown(soon()).await;
    assert!(error.is_none() && aborted.is_empty());
}

#[tokio::test]
async fn a_task_that_panics_ends_the_group_and_is_named() {
    let mut group = TaskGroup::new();
    group.spawn("waits", until_told(group.stop_token()));
    group.spawn("panics", async {
        assert!(group_is_empty(), "this task panics on purpose");
        Ok::<_, Infallible>(())
    });
    let error = group.run().await.unwrap_err();
    assert!(matches!(error, TaskError::Panicked { name: "panics" }));
    assert!(group.stop_token().is_cancelled());
}

fn group_is_empty() -> bool {
    false
}

#[tokio::test]
async fn a_group_whose_tasks_all_end_well_ends_well() {
    let mut group = TaskGroup::new();
    for _ in 0..3 {
        group.spawn("ends", async { Ok::<_, Infallible>(()) });
    }
    assert_eq!(group.len(), 3);
    group.run().await.unwrap();
    assert!(group.is_empty() && !group.stop_token().is_cancelled());
}

#[tokio::test]
async fn what_does_not_end_in_time_is_aborted_and_named() {
    let mut group = TaskGroup::new();
    group.spawn("heeds", until_told(group.stop_token()));
    group.spawn("deaf", std::future::pending::<Result<(), Infallible>>());
    let by = Instant::now() + Duration::from_millis(50);
    let (error, aborted) = group.shutdown(by).await;
    assert!(error.is_none());
    assert_eq!(aborted, ["deaf"]);
}

#[tokio::test]
async fn a_group_ends_with_the_one_above_it() {
    let above = CancellationToken::new();
    let mut group = TaskGroup::stopped_by(&above);
    group.spawn("heeds", until_told(group.stop_token()));
    above.cancel();
    group.run().await.unwrap();
}

#[tokio::test]
async fn tasks_that_ended_can_be_let_go_without_waiting() {
    let mut group = TaskGroup::new();
    group.spawn("waits", until_told(group.stop_token()));
    group.spawn("ends", async { Ok::<_, Infallible>(()) });
    assert_eq!(group.join_next().await.map(Result::unwrap), Some("ends"));
    group.spawn("fails", async { Err::<(), _>("no more") });
    tokio::task::yield_now().await;
    assert!(matches!(
        group.reap(),
        Err(TaskError::Failed { name: "fails", .. })
    ));
    assert!(group.reap().is_ok(), "each error is told once");
    assert!(group.stop_token().is_cancelled());
}
