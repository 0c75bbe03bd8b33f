use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::*;

#[tokio::test]
async fn frames_go_both_ways_and_an_end_is_told() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let grant = SignedGrant {
        grant: "{}".to_owned(),
        signature: "x".to_owned(),
    };
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(stream.read_u8().await.unwrap());
        }
        let came: SignedGrant = serde_json::from_slice(&line).unwrap();
        let mut typed = Vec::new();
        loop {
            match read_frame(&mut stream).await.unwrap() {
                (Kind::Input, bytes) if bytes.is_empty() => break,
                (Kind::Input, bytes) => typed.extend(bytes),
                (kind, bytes) => assert_eq!((kind, bytes), (Kind::Size, vec![0, 80, 0, 24])),
            }
        }
        write_frame(&mut stream, Kind::Output, b"out")
            .await
            .unwrap();
        write_frame(&mut stream, Kind::Errors, b"err")
            .await
            .unwrap();
        let ended = serde_json::to_vec(&Ended::Exit(7)).unwrap();
        write_frame(&mut stream, Kind::Ended, &ended).await.unwrap();
        (came, typed)
    };
    let called = async {
        let by = Instant::now() + Duration::from_secs(10);
        let (mut output, mut input) = open_session(address, &grant, by).await.unwrap();
        input.resize(80, 24).await.unwrap();
        // More than one frame holds.
        input.send(&vec![b'a'; FRAME_BYTES_MAX + 1]).await.unwrap();
        input.send(&[]).await.unwrap();
        let mut events = Vec::new();
        for _ in 0..3 {
            events.push(output.next().await.unwrap());
        }
        events
    };
    let ((came, typed), events) = tokio::join!(served, called);
    assert_eq!(came, grant);
    assert_eq!(typed.len(), FRAME_BYTES_MAX + 1);
    assert_eq!(
        events,
        [
            SessionEvent::Output(b"out".to_vec()),
            SessionEvent::Errors(b"err".to_vec()),
            SessionEvent::Ended(Ended::Exit(7)),
        ]
    );
}

#[tokio::test]
async fn what_is_no_frame_is_refused_before_it_is_read() {
    let mut wrong: &[u8] = &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0];
    let error = read_frame(&mut wrong).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let mut short: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 5, b'a'];
    let error = read_frame(&mut short).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
