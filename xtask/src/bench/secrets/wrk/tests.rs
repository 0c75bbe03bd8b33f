use super::super::operations::OPERATIONS;
use super::*;

const SAID: &str = "Running 6s test @ https://127.0.0.1:8200
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.32ms    1.91ms  33.40ms   93.80%
    Req/Sec    31.21k     3.02k   36.11k    68.33%
  Latency Distribution
     50%  812.00us
     75%    1.22ms
     90%    2.31ms
     99%    9.98ms
  186493 requests in 6.01s, 84.12MB read
  Non-2xx or 3xx responses: 17
Requests/sec:  31041.07
Transfer/sec:     14.00MB
";

#[test]
fn what_wrk_says_is_read() {
    let load = parse(SAID).unwrap();
    assert_eq!(
        (load.p50.as_str(), load.p99.as_str()),
        ("812.00us", "9.98ms")
    );
    assert_eq!((load.requests, load.refused), (186_493.0, 17));
    assert!((load.per_second - 31_041.07).abs() < 0.001);
    assert_eq!(
        parse(&SAID.replace("  Non-2xx", "  Other"))
            .unwrap()
            .refused,
        0
    );
    assert!(parse("unable to connect").is_err());
}

#[test]
fn only_writes_of_new_keys_get_a_number() {
    for operation in OPERATIONS {
        let script = script(operation, "token").unwrap();
        let numbers = script.contains("run .. '-' .. n");
        assert_eq!(
            numbers,
            operation.name.starts_with("kv-write"),
            "{}",
            operation.name
        );
    }
}
