//! Keywords of keepalived without a counterpart, and why.

use super::{Kind, Note};
use crate::conf::Statement;

/// Why a line is not translated.
pub(super) fn note(line: &Statement) -> Note {
    let (kind, why) = reason(line.keyword());
    Note::new(kind, line, why)
}

fn reason(keyword: &str) -> (Kind, &'static str) {
    use Kind::{Changed, Lost, Needless};
    let has = |parts: &[&str]| parts.iter().any(|part| keyword.contains(part));
    match keyword {
        "static_ipaddress" | "static_routes" | "static_rules" | "virtual_rules" => (
            Lost,
            "an appliance has one address in each network and one default route",
        ),
        "track_bfd" | "bfd_instance" => (
            Lost,
            "appliances speak no BFD; heartbeats find a dead peer as fast",
        ),
        "track_process" | "vrrp_track_process" => (
            Lost,
            "no process but its own runs on an appliance; a program elsewhere can post a value: [[track]] posted = \"…\"",
        ),
        "vrrp_mcast_group4" | "vrrp_mcast_group6" | "mcast_dst_ip" => (
            Lost,
            "adverts go to the groups of RFC 9568, or to peers one by one (unicast)",
        ),
        "down_timer_adverts" | "vrrp_down_timer_adverts" => (
            Lost,
            "a silent Active is given up after three intervals (RFC 9568 §6.1)",
        ),
        "use_ipvlan" | "vmac_prefix" | "vrrp_vmac_prefix" | "vmac_addr_prefix" => {
            (Lost, "the virtual MAC address is that of RFC 9568 §7.3")
        }
        "vmac_xmit_base" | "vrrp_vmac_xmit_base" => (
            Changed,
            "with virtual_mac, adverts come from the virtual MAC address as well (RFC 9568 §7.2)",
        ),
        "garp_extra_if" | "vrrp_garp_extra_if" | "garp_group" => (
            Needless,
            "addresses are announced in the network that they are in",
        ),
        "dont_track_primary" => (
            Changed,
            "a port without carrier is a fault unless [[track]] gives it a weight",
        ),
        "interface_up_down_delays" => {
            (Changed, "start_delay in [vrrp] waits after links came back")
        }
        "linkbeat_use_polling" | "linkbeat_interfaces" => {
            (Needless, "links are watched by their PHYs")
        }
        "lower_prio_no_advert" | "vrrp_lower_prio_no_advert" => (
            Changed,
            "a weaker router's advert is answered at once (RFC 9568 §6.4.3)",
        ),
        "higher_prio_send_advert" | "vrrp_higher_prio_send_advert" => (
            Needless,
            "a last advert goes out before the addresses are given up",
        ),
        "skip_check_adv_addr" | "vrrp_skip_check_adv_addr" => (
            Changed,
            "adverts that list other addresses are reported; strict_addresses drops them",
        ),
        "check_unicast_src" | "vrrp_check_unicast_src" => {
            (Needless, "others than the peers are never believed")
        }
        "unicast_fault_no_peer" => (Needless, "`check` refuses unicast without a peer"),
        "unicast_ttl" => (
            Changed,
            "adverts leave with 255; `ttl` in [vrrp] says what they may arrive with",
        ),
        "old_unicast_checksum" => (Lost, "a mistake of keepalived 1.3.6 and older"),
        "anti_replay" | "time_window" => (Changed, "sequences must grow, clocks need not agree"),
        "native_ipv6" => (Needless, "the addresses say it"),
        "track_src_ip" => (Needless, "an appliance does not lose its address"),
        "log_unknown_vrids" => (Needless, "foreign routers are always reported"),
        "default_interface" | "lvs_timeouts" | "vrf" | "use_vmac_addr" | "promote_secondaries" => (
            Lost,
            "it is about interfaces or the kernel of a Linux machine",
        ),
        "global_tracking" | "sync_group_tracking_weight" => (
            Needless,
            "all virtual routers of an appliance have one priority",
        ),
        "lvs_sync_daemon" => (
            Needless,
            "a pair of appliances shares its flows by itself: [pair] sync",
        ),
        "script_user" | "enable_script_security" => {
            (Needless, "it is about programs of keepalived")
        }
        "SSL" => (
            Lost,
            "checks over TLS show no certificate of their own; `ca` says whom they believe",
        ),
        "omega" | "quorum_up" | "quorum_down" | "notify_up" | "notify_down" => {
            (Lost, "appliances run no programs")
        }
        "hysteresis" => (Lost, "rise and fall of the check hold against flapping"),
        "ha_suspend" => (
            Changed,
            "both appliances check always, so that a take-over knows",
        ),
        "lthreshold" => (
            Lost,
            "a server is used again as soon as it is below max_flows",
        ),
        "alpha" | "rs_init_notifies" => (
            Changed,
            "a server counts once its check has succeeded `rise` times",
        ),
        "warmup" => (Changed, "checks are spread by their jitter"),
        "fast_recovery" | "http_protocol" | "log_all_failures" => {
            (Changed, "one short request in each interval")
        }
        "enable_sni" => (Needless, "the server's name is always sent"),
        "persistence_engine" => (Lost, "clients are known by their addresses only"),
        "snmp_name" => (Lost, "appliances speak no SNMP"),
        "ops" | "flag-1" | "flag-2" | "flag-3" | "sh-port" | "sh-fallback" | "mh-port"
        | "mh-fallback" => (
            Lost,
            "schedulers have no flags: hashes are over addresses, an unhealthy server is left out",
        ),
        "connect_ip" | "bindto" | "bind_if" | "bind_port" | "fwmark" => {
            (Lost, "servers are checked at the addresses they serve on")
        }
        "digest" | "regex" | "regex_no_match" | "regex_options" | "regex_stack"
        | "regex_min_offset" | "regex_max_offset" => (Lost, "HTTP checks read the status only"),
        "helo_name" | "misc_path" | "misc_timeout" | "misc_dynamic" => {
            (Lost, "its check is not translated")
        }
        _ if has(&[
            "notify",
            "script",
            "smtp",
            "notification_email",
            "email",
            "fifo",
        ]) =>
        {
            (
                Lost,
                "appliances run no programs and send no mail: alerts are the monitor's",
            )
        }
        _ if has(&["snmp", "traps", "dbus"]) => (Lost, "appliances speak neither SNMP nor D-Bus"),
        _ if has(PROCESS) => (Needless, "it is about a process on Linux"),
        _ => (Lost, "not known to this tool"),
    }
}

/// Parts of keywords about keepalived as a process.
const PROCESS: &[&str] = &[
    "_priority",
    "_no_swap",
    "_affinity",
    "rlimit",
    "process_name",
    "rcv_bufs",
    "rx_bufs",
    "rx_buf",
    "namespace",
    "nftables",
    "iptables",
    "ipsets",
    "lvs_flush",
    "reload",
    "pid_dir",
    "umask",
    "random_seed",
    "directory",
    "save_dir",
    "child_wait",
    "instance",
    "dynamic_interfaces",
    "disable_local_igmp",
    "include_check",
    "debug",
    "min_garp",
    "max_auto",
    "data_use",
    "shutdown",
    "startup",
    "checker_log",
];
