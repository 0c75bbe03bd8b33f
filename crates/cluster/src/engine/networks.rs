//! Networks: a bridge per host for services, made from a template that holds the host's subnet.

use std::collections::{BTreeMap, HashMap};

use bollard::models;
use bollard::query_parameters::ListNetworksOptions;
use ipnet::Ipv4Net;

use super::Engine;
use super::error::{EngineError, Object};
use crate::core::state::Network;
use crate::core::swarm::{
    BRIDGE, GATEWAY_NETWORK, NETWORK, NETWORK_TEMPLATE, OPTION_BRIDGE, OPTION_MTU,
};

impl Engine {
    /// Lists the networks, by name.
    pub async fn networks(&self) -> Result<BTreeMap<String, Network>, EngineError> {
        let listed = Object::new("listing", "networks")
            .ask(self.docker.list_networks(None::<ListNetworksOptions>))
            .await?;
        Ok(listed.into_iter().filter_map(network).collect())
    }

    /// Makes the bridge that Swarm would otherwise make itself, on a subnet of its own choice.
    pub async fn create_gateway(&self, subnet: Ipv4Net, mtu: u16) -> Result<(), EngineError> {
        let options = [
            (OPTION_BRIDGE, GATEWAY_NETWORK.to_owned()),
            (OPTION_MTU, mtu.to_string()),
            ("com.docker.network.bridge.enable_icc", "false".to_owned()),
            (
                "com.docker.network.bridge.enable_ip_masquerade",
                "true".to_owned(),
            ),
        ];
        self.create_network(models::NetworkCreateRequest {
            name: GATEWAY_NETWORK.to_owned(),
            driver: Some("bridge".to_owned()),
            ipam: Some(ipam(subnet)),
            options: Some(owned(options)),
            ..Default::default()
        })
        .await
    }

    /// Makes the template that gives the service network this host's subnet.
    ///
    /// No masquerading: an address is the same on all nodes. `trusted` names the interface from
    /// which engines since 28.2 let packets in that are addressed to a container; older ones pass
    /// over the option.
    pub async fn create_template(
        &self,
        subnet: Ipv4Net,
        mtu: u16,
        trusted: &str,
    ) -> Result<(), EngineError> {
        let options = [
            (OPTION_BRIDGE, BRIDGE.to_owned()),
            (OPTION_MTU, mtu.to_string()),
            (
                "com.docker.network.bridge.enable_ip_masquerade",
                "false".to_owned(),
            ),
            (
                "com.docker.network.bridge.trusted_host_interfaces",
                trusted.to_owned(),
            ),
        ];
        self.create_network(models::NetworkCreateRequest {
            name: NETWORK_TEMPLATE.to_owned(),
            config_only: Some(true),
            ipam: Some(ipam(subnet)),
            options: Some(owned(options)),
            ..Default::default()
        })
        .await
    }

    /// Makes the service network of the Swarm, on a manager.
    pub async fn create_service_network(&self) -> Result<(), EngineError> {
        self.create_network(models::NetworkCreateRequest {
            name: NETWORK.to_owned(),
            driver: Some("bridge".to_owned()),
            scope: Some("swarm".to_owned()),
            attachable: Some(true),
            config_from: Some(models::ConfigReference {
                network: Some(NETWORK_TEMPLATE.to_owned()),
            }),
            ..Default::default()
        })
        .await
    }

    /// Removes a network; one that does not exist is removed already.
    pub async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        match Object::new("removing network", name)
            .ask(self.docker.remove_network(name))
            .await
        {
            Err(error) if error.status() == Some(404) => Ok(()),
            other => other,
        }
    }

    async fn create_network(
        &self,
        request: models::NetworkCreateRequest,
    ) -> Result<(), EngineError> {
        let object = Object::new("creating network", request.name.clone());
        match object.ask(self.docker.create_network(request)).await {
            Ok(_) => Ok(()),
            // It exists: a round before this one got further than it knew.
            Err(error) if error.status() == Some(409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn owned<const N: usize>(options: [(&str, String); N]) -> HashMap<String, String> {
    options
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn ipam(subnet: Ipv4Net) -> models::Ipam {
    let config = models::IpamConfig {
        subnet: Some(subnet.to_string()),
        ..models::IpamConfig::default()
    };
    models::Ipam {
        config: Some(vec![config]),
        ..models::Ipam::default()
    }
}

fn network(found: models::Network) -> Option<(String, Network)> {
    let config = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let subnets = config
        .iter()
        .filter_map(|one| one.subnet.as_ref()?.parse().ok())
        .collect();
    let config_from = found.config_from.and_then(|from| from.network);
    let network = Network {
        driver: found.driver.unwrap_or_default(),
        swarm_scope: found.scope.as_deref() == Some("swarm"),
        config_only: found.config_only.unwrap_or(false),
        config_from: config_from.filter(|name| !name.is_empty()),
        ingress: found.ingress.unwrap_or(false),
        subnets,
        options: found.options.unwrap_or_default().into_iter().collect(),
    };
    Some((found.name?, network))
}
