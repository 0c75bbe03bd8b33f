//! Keys of the compose specification that are refused by name, and why.
//!
//! An empty reason marks an extension (`x-…`), which the specification defines as ignored.

/// Keys of the file itself.
pub fn in_file(key: &str) -> Option<&'static str> {
    Some(match key {
        "networks" => {
            "all services of a cluster share one routed network and find each other by name; \
             delete it"
        }
        "secrets" | "configs" => {
            "not supported yet: put what is not secret into `environment` or into the image"
        }
        "include" => "write the services into this file",
        "x-bastide" => "not supported yet",
        key if key.starts_with("x-") => "",
        _ => return None,
    })
}

/// Keys of a service.
pub fn in_service(key: &str) -> Option<&'static str> {
    const HOST: &str = "it shares the host's namespace with the container, which could then see \
                        or disturb everything on the host";
    const KERNEL: &str = "it weakens the wall between the container and the host's kernel";
    Some(match key {
        "build" => {
            "an image is built before it is deployed: `docker build -t NAME .`, then name it \
             under `image`"
        }
        "network_mode" | "pid" | "ipc" | "userns_mode" | "uts" | "cgroup" => HOST,
        "privileged" => {
            "a privileged container is root on the host; name what the program really needs"
        }
        "cap_add" => {
            "added capabilities reach beyond the container; the defaults are enough \
                      for most programs"
        }
        "devices" | "device_cgroup_rules" | "gpus" => {
            "a device of the host is outside of what a container may touch"
        }
        "security_opt" | "sysctls" | "cgroup_parent" | "runtime" | "isolation"
        | "credential_spec" | "use_api_socket" => KERNEL,
        "volumes_from" => "share a named volume instead",
        "networks" | "links" | "external_links" | "mac_address" => {
            "all services of a cluster share one routed network and find each other by name; \
             delete it"
        }
        "dns" | "dns_search" | "dns_opt" | "extra_hosts" | "domainname" => {
            "names come from the cluster's own DNS on every node; delete it"
        }
        "container_name" => {
            "a service may have several containers; they are found by the \
                             service's name"
        }
        "depends_on" => {
            "services start together and each retries until the others answer; give the other \
             one a `healthcheck` and delete this"
        }
        "scale" => "write `deploy: {replicas: N}`",
        "mem_limit" | "cpus" | "pids_limit" | "mem_reservation" | "cpu_count" => {
            "write it under `deploy: {resources: {limits: …}}`"
        }
        "mem_swappiness" | "memswap_limit" | "cpu_shares" | "cpu_quota" | "cpu_period"
        | "cpu_percent" | "cpu_rt_period" | "cpu_rt_runtime" | "cpuset" | "blkio_config"
        | "oom_kill_disable" | "oom_score_adj" | "shm_size" | "ulimits" | "group_add"
        | "storage_opt" | "profiles" | "platform" | "pull_policy" | "attach" | "annotations"
        | "develop" | "stdin_open" | "tty" | "post_start" | "pre_stop" | "models" | "provider" => {
            "not supported"
        }
        "env_file" | "label_file" => "write the values into this file",
        "secrets" | "configs" => {
            "not supported yet: put what is not secret into `environment` or into the image"
        }
        "extends" => "use a YAML anchor and a merge key (`<<: *name`)",
        "expose" => "every port of a container can be reached inside the cluster; delete it",
        "logging" => "the cluster decides how logs are kept; delete it",
        "x-bastide" => "not supported yet",
        key if key.starts_with("x-") => "",
        _ => return None,
    })
}

/// Keys of `deploy`.
pub fn in_deploy(key: &str) -> Option<&'static str> {
    Some(match key {
        "endpoint_mode" => {
            "names always answer with the addresses of the healthy tasks; there are no virtual \
             addresses to choose"
        }
        _ => return None,
    })
}

/// Keys of limits and reservations.
pub fn in_resources(key: &str) -> Option<&'static str> {
    Some(match key {
        "devices" | "generic_resources" => {
            "a device of the host is outside of what a container may touch"
        }
        _ => return None,
    })
}

/// Keys of a volume that the file declares.
pub fn in_volume(key: &str) -> Option<&'static str> {
    Some(match key {
        "driver_opts" => "driver options can bind a path of the host",
        "driver" => "volumes are local to the node that runs the task",
        "external" | "name" => "a volume belongs to its stack",
        key if key.starts_with("x-") => "",
        _ => return None,
    })
}

/// Keys of a port.
pub fn in_port(key: &str) -> Option<&'static str> {
    Some(match key {
        "host_ip" => "a port is published on the addresses of whichever host runs the task",
        _ => return None,
    })
}

/// Keys of a volume in a service.
pub fn in_mount(key: &str) -> Option<&'static str> {
    Some(match key {
        "bind" => "a path of the host is outside of what a container may touch",
        "volume" | "image" | "tmpfs" | "consistency" => "not supported",
        _ => return None,
    })
}

/// Nothing is refused by name.
pub fn nothing(_key: &str) -> Option<&'static str> {
    None
}
