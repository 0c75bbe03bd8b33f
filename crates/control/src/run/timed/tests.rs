use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

#[tokio::test]
async fn whoever_stops_reading_is_given_up() {
    let (near, far) = duplex(8);
    let mut near = Timed::new(near, Duration::from_millis(50));
    near.write_all(b"12345678").await.unwrap();
    let error = near.write_all(b"9").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(far);
}

#[tokio::test]
async fn whoever_reads_on_gets_everything_however_long_it_takes() {
    let (near, mut far) = duplex(1);
    let mut near = Timed::new(near, Duration::from_secs(10));
    let writing = async {
        near.write_all(&[7; 1000]).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let reading = async {
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        heard.len()
    };
    let ((), heard) = tokio::join!(writing, reading);
    assert_eq!(heard, 1000);
}
