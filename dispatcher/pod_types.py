"""The Kubernetes API's types that a pod is made of, as data: which fields each has, and what stands in them.

A line is a type: its name, then ``field=what``. What stands there is ``text``, ``flag`` (true or false), ``int`` and
``long`` (whole numbers of 32 and 64 bits), ``quantity`` (a number with a unit, as 500m or 1Gi), ``port`` (a number or a
name), ``line`` (a text that is shown, so without control characters), ``label`` and ``subdomain`` (names by RFC 1123,
which Kubernetes never takes otherwise), ``any``, or another type. ``X[]`` is a list of X, ``X[name]`` one whose members
are told apart by that field and so need it, ``X[name!]`` one where Kubernetes takes each only once, ``X[name?]`` the
same for members that have it; ``{X}`` is a mapping of texts to X.

Taken from Kubernetes 1.36; a test holds it to the Kubernetes client. Fields that are not listed are the API server's
business: a newer one has more.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Word(StrEnum):
    """What has no fields of its own."""

    TEXT = "text"
    FLAG = "flag"
    INT = "int"
    LONG = "long"
    QUANTITY = "quantity"
    PORT = "port"
    LINE = "line"
    LABEL = "label"
    SUBDOMAIN = "subdomain"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Object:
    """A mapping with the fields of this type."""

    type: str


@dataclass(frozen=True, slots=True)
class MapOf:
    """A mapping of texts to this."""

    member: "Shape"


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list whose members all have this shape. ``key``: the field that tells them apart."""

    member: "Shape"
    key: str = ""
    needs_key: bool = False
    is_distinct: bool = False


Shape = Word | Object | MapOf | ListOf

_LISTED: Final = re.compile(r"(?P<member>.+)\[(?P<key>\w*)(?P<rule>[!?]?)\]")


def shape(text: str) -> Shape:
    """Read what stands in a field."""
    if found := _LISTED.fullmatch(text):
        key, rule = found["key"], found["rule"]
        return ListOf(shape(found["member"]), key, needs_key=bool(key) and rule != "?", is_distinct=bool(rule))
    if text.startswith("{"):
        return MapOf(shape(text[1:-1]))
    return Object(text) if text[0].isupper() else Word(text)


def _read(table: str) -> dict[str, dict[str, Shape]]:
    types: dict[str, dict[str, Shape]] = {}
    for line in table.replace("\n    ", " ").split("\n"):
        name, *fields = line.split()
        types[name] = {field: shape(text) for field, _, text in (pair.partition("=") for pair in fields)}
    return types


_TABLE: Final = """\
PodTemplate apiVersion=text kind=text metadata=ObjectMeta spec=PodSpec
JobSpec affinity=Affinity annotations={text} args=text[] base_container=label command=text[]
    container_security_context=SecurityContext containers=Container[name!] dns_config=PodDNSConfig env=EnvVar[name]
    env_from=EnvFromSource[] host_aliases=HostAlias[] hostname=label image=line image_pull_secrets=text[]
    init_containers=Container[name!] key=line labels={text} name=line namespace=label node_selector={text}
    pod_template=PodTemplate ports=ContainerPort[name?] priority_class_name=subdomain queue=label
    resources=ResourceRequirements runtime_class_name=subdomain scheduler_name=line
    security_context=PodSecurityContext service_account_name=subdomain subdomain=label submitted_by=line
    tolerations=Toleration[] trace={text} volatile_labels={text} volume_mounts=VolumeMount[mountPath!]
    volumes=Volume[name!]
ObjectMeta annotations={text} creationTimestamp=text deletionGracePeriodSeconds=long deletionTimestamp=text
    finalizers=text[] generateName=text generation=long labels={text} managedFields=ManagedFieldsEntry[] name=text
    namespace=label ownerReferences=OwnerReference[] resourceVersion=text selfLink=text uid=text
ManagedFieldsEntry apiVersion=text fieldsType=text fieldsV1=any manager=text operation=text subresource=text time=text
OwnerReference apiVersion=text blockOwnerDeletion=flag controller=flag kind=text name=text uid=text
PodSpec activeDeadlineSeconds=long affinity=Affinity automountServiceAccountToken=flag containers=Container[name!]
    dnsConfig=PodDNSConfig dnsPolicy=text enableServiceLinks=flag ephemeralContainers=EphemeralContainer[name!]
    hostAliases=HostAlias[] hostIPC=flag hostNetwork=flag hostPID=flag hostUsers=flag hostname=label
    hostnameOverride=text imagePullSecrets=LocalObjectReference[] initContainers=Container[name!] nodeName=subdomain
    nodeSelector={text} os=PodOS overhead={quantity} preemptionPolicy=text priority=int priorityClassName=subdomain
    readinessGates=PodReadinessGate[] resourceClaims=PodResourceClaim[name!] resources=ResourceRequirements
    restartPolicy=text runtimeClassName=subdomain schedulerName=text schedulingGates=PodSchedulingGate[name!]
    schedulingGroup=PodSchedulingGroup securityContext=PodSecurityContext serviceAccount=subdomain
    serviceAccountName=subdomain
    setHostnameAsFQDN=flag shareProcessNamespace=flag subdomain=label terminationGracePeriodSeconds=long
    tolerations=Toleration[] topologySpreadConstraints=TopologySpreadConstraint[] volumes=Volume[name!]
Affinity nodeAffinity=NodeAffinity podAffinity=PodAffinity podAntiAffinity=PodAntiAffinity
NodeAffinity preferredDuringSchedulingIgnoredDuringExecution=PreferredSchedulingTerm[]
    requiredDuringSchedulingIgnoredDuringExecution=NodeSelector
PreferredSchedulingTerm preference=NodeSelectorTerm weight=int
NodeSelectorTerm matchExpressions=NodeSelectorRequirement[] matchFields=NodeSelectorRequirement[]
NodeSelectorRequirement key=text operator=text values=text[]
NodeSelector nodeSelectorTerms=NodeSelectorTerm[]
PodAffinity preferredDuringSchedulingIgnoredDuringExecution=WeightedPodAffinityTerm[]
    requiredDuringSchedulingIgnoredDuringExecution=PodAffinityTerm[]
WeightedPodAffinityTerm podAffinityTerm=PodAffinityTerm weight=int
PodAffinityTerm labelSelector=LabelSelector matchLabelKeys=text[] mismatchLabelKeys=text[]
    namespaceSelector=LabelSelector namespaces=text[] topologyKey=text
LabelSelector matchExpressions=LabelSelectorRequirement[] matchLabels={text}
LabelSelectorRequirement key=text operator=text values=text[]
PodAntiAffinity preferredDuringSchedulingIgnoredDuringExecution=WeightedPodAffinityTerm[]
    requiredDuringSchedulingIgnoredDuringExecution=PodAffinityTerm[]
Container args=text[] command=text[] env=EnvVar[name] envFrom=EnvFromSource[] image=line imagePullPolicy=text
    lifecycle=Lifecycle livenessProbe=Probe name=label ports=ContainerPort[name?] readinessProbe=Probe
    resizePolicy=ContainerResizePolicy[] resources=ResourceRequirements restartPolicy=text
    restartPolicyRules=ContainerRestartRule[] securityContext=SecurityContext startupProbe=Probe stdin=flag
    stdinOnce=flag terminationMessagePath=text terminationMessagePolicy=text tty=flag
    volumeDevices=VolumeDevice[devicePath!] volumeMounts=VolumeMount[mountPath!] workingDir=text
EnvVar name=line value=text valueFrom=EnvVarSource
EnvVarSource configMapKeyRef=ConfigMapKeySelector fieldRef=ObjectFieldSelector fileKeyRef=FileKeySelector
    resourceFieldRef=ResourceFieldSelector secretKeyRef=SecretKeySelector
ConfigMapKeySelector key=text name=text optional=flag
ObjectFieldSelector apiVersion=text fieldPath=text
FileKeySelector key=text optional=flag path=text volumeName=text
ResourceFieldSelector containerName=text divisor=quantity resource=text
SecretKeySelector key=text name=text optional=flag
EnvFromSource configMapRef=ConfigMapEnvSource prefix=text secretRef=SecretEnvSource
ConfigMapEnvSource name=text optional=flag
SecretEnvSource name=text optional=flag
Lifecycle postStart=LifecycleHandler preStop=LifecycleHandler stopSignal=text
LifecycleHandler exec=ExecAction httpGet=HTTPGetAction sleep=SleepAction tcpSocket=TCPSocketAction
ExecAction command=text[]
HTTPGetAction host=text httpHeaders=HTTPHeader[] path=text port=port scheme=text
HTTPHeader name=text value=text
SleepAction seconds=long
TCPSocketAction host=text port=port
Probe exec=ExecAction failureThreshold=int grpc=GRPCAction httpGet=HTTPGetAction initialDelaySeconds=int
    periodSeconds=int successThreshold=int tcpSocket=TCPSocketAction terminationGracePeriodSeconds=long
    timeoutSeconds=int
GRPCAction port=int service=text
ContainerPort containerPort=int hostIP=text hostPort=int name=text protocol=text
ContainerResizePolicy resourceName=text restartPolicy=text
ResourceRequirements claims=ResourceClaim[] limits={quantity} requests={quantity}
ResourceClaim name=text request=text
ContainerRestartRule action=text exitCodes=ContainerRestartRuleOnExitCodes
ContainerRestartRuleOnExitCodes operator=text values=int[]
SecurityContext allowPrivilegeEscalation=flag appArmorProfile=AppArmorProfile capabilities=Capabilities
    privileged=flag procMount=text readOnlyRootFilesystem=flag runAsGroup=long runAsNonRoot=flag runAsUser=long
    seLinuxOptions=SELinuxOptions seccompProfile=SeccompProfile windowsOptions=WindowsSecurityContextOptions
AppArmorProfile localhostProfile=text type=text
Capabilities add=text[] drop=text[]
SELinuxOptions level=text role=text type=text user=text
SeccompProfile localhostProfile=text type=text
WindowsSecurityContextOptions gmsaCredentialSpec=text gmsaCredentialSpecName=text hostProcess=flag runAsUserName=text
VolumeDevice devicePath=text name=text
VolumeMount mountPath=text mountPropagation=text name=text readOnly=flag recursiveReadOnly=text subPath=text
    subPathExpr=text
PodDNSConfig nameservers=text[] options=PodDNSConfigOption[] searches=text[]
PodDNSConfigOption name=text value=text
EphemeralContainer args=text[] command=text[] env=EnvVar[name] envFrom=EnvFromSource[] image=line imagePullPolicy=text
    lifecycle=Lifecycle livenessProbe=Probe name=label ports=ContainerPort[name?] readinessProbe=Probe
    resizePolicy=ContainerResizePolicy[] resources=ResourceRequirements restartPolicy=text
    restartPolicyRules=ContainerRestartRule[] securityContext=SecurityContext startupProbe=Probe stdin=flag
    stdinOnce=flag targetContainerName=text terminationMessagePath=text terminationMessagePolicy=text tty=flag
    volumeDevices=VolumeDevice[devicePath!] volumeMounts=VolumeMount[mountPath!] workingDir=text
HostAlias hostnames=text[] ip=text
LocalObjectReference name=text
PodOS name=text
PodReadinessGate conditionType=text
PodResourceClaim name=label resourceClaimName=text resourceClaimTemplateName=text
PodSchedulingGate name=text
PodSchedulingGroup podGroupName=text
PodSecurityContext appArmorProfile=AppArmorProfile fsGroup=long fsGroupChangePolicy=text runAsGroup=long
    runAsNonRoot=flag runAsUser=long seLinuxChangePolicy=text seLinuxOptions=SELinuxOptions
    seccompProfile=SeccompProfile supplementalGroups=long[] supplementalGroupsPolicy=text sysctls=Sysctl[]
    windowsOptions=WindowsSecurityContextOptions
Sysctl name=text value=text
Toleration effect=text key=text operator=text tolerationSeconds=long value=text
TopologySpreadConstraint labelSelector=LabelSelector matchLabelKeys=text[] maxSkew=int minDomains=int
    nodeAffinityPolicy=text nodeTaintsPolicy=text topologyKey=text whenUnsatisfiable=text
Volume awsElasticBlockStore=AWSElasticBlockStoreVolumeSource azureDisk=AzureDiskVolumeSource
    azureFile=AzureFileVolumeSource cephfs=CephFSVolumeSource cinder=CinderVolumeSource
    configMap=ConfigMapVolumeSource csi=CSIVolumeSource downwardAPI=DownwardAPIVolumeSource
    emptyDir=EmptyDirVolumeSource ephemeral=EphemeralVolumeSource fc=FCVolumeSource flexVolume=FlexVolumeSource
    flocker=FlockerVolumeSource gcePersistentDisk=GCEPersistentDiskVolumeSource gitRepo=GitRepoVolumeSource
    glusterfs=GlusterfsVolumeSource hostPath=HostPathVolumeSource image=ImageVolumeSource iscsi=ISCSIVolumeSource
    name=label nfs=NFSVolumeSource persistentVolumeClaim=PersistentVolumeClaimVolumeSource
    photonPersistentDisk=PhotonPersistentDiskVolumeSource portworxVolume=PortworxVolumeSource
    projected=ProjectedVolumeSource quobyte=QuobyteVolumeSource rbd=RBDVolumeSource scaleIO=ScaleIOVolumeSource
    secret=SecretVolumeSource storageos=StorageOSVolumeSource vsphereVolume=VsphereVirtualDiskVolumeSource
AWSElasticBlockStoreVolumeSource fsType=text partition=int readOnly=flag volumeID=text
AzureDiskVolumeSource cachingMode=text diskName=text diskURI=text fsType=text kind=text readOnly=flag
AzureFileVolumeSource readOnly=flag secretName=text shareName=text
CephFSVolumeSource monitors=text[] path=text readOnly=flag secretFile=text secretRef=LocalObjectReference user=text
CinderVolumeSource fsType=text readOnly=flag secretRef=LocalObjectReference volumeID=text
ConfigMapVolumeSource defaultMode=int items=KeyToPath[] name=text optional=flag
KeyToPath key=text mode=int path=text
CSIVolumeSource driver=text fsType=text nodePublishSecretRef=LocalObjectReference readOnly=flag
    volumeAttributes={text}
DownwardAPIVolumeSource defaultMode=int items=DownwardAPIVolumeFile[]
DownwardAPIVolumeFile fieldRef=ObjectFieldSelector mode=int path=text resourceFieldRef=ResourceFieldSelector
EmptyDirVolumeSource medium=text sizeLimit=quantity
EphemeralVolumeSource volumeClaimTemplate=PersistentVolumeClaimTemplate
PersistentVolumeClaimTemplate metadata=ObjectMeta spec=PersistentVolumeClaimSpec
PersistentVolumeClaimSpec accessModes=text[] dataSource=TypedLocalObjectReference dataSourceRef=TypedObjectReference
    resources=VolumeResourceRequirements selector=LabelSelector storageClassName=text volumeAttributesClassName=text
    volumeMode=text volumeName=text
TypedLocalObjectReference apiGroup=text kind=text name=text
TypedObjectReference apiGroup=text kind=text name=text namespace=text
VolumeResourceRequirements limits={quantity} requests={quantity}
FCVolumeSource fsType=text lun=int readOnly=flag targetWWNs=text[] wwids=text[]
FlexVolumeSource driver=text fsType=text options={text} readOnly=flag secretRef=LocalObjectReference
FlockerVolumeSource datasetName=text datasetUUID=text
GCEPersistentDiskVolumeSource fsType=text partition=int pdName=text readOnly=flag
GitRepoVolumeSource directory=text repository=text revision=text
GlusterfsVolumeSource endpoints=text path=text readOnly=flag
HostPathVolumeSource path=text type=text
ImageVolumeSource pullPolicy=text reference=text
ISCSIVolumeSource chapAuthDiscovery=flag chapAuthSession=flag fsType=text initiatorName=text iqn=text
    iscsiInterface=text lun=int portals=text[] readOnly=flag secretRef=LocalObjectReference targetPortal=text
NFSVolumeSource path=text readOnly=flag server=text
PersistentVolumeClaimVolumeSource claimName=text readOnly=flag
PhotonPersistentDiskVolumeSource fsType=text pdID=text
PortworxVolumeSource fsType=text readOnly=flag volumeID=text
ProjectedVolumeSource defaultMode=int sources=VolumeProjection[]
VolumeProjection clusterTrustBundle=ClusterTrustBundleProjection configMap=ConfigMapProjection
    downwardAPI=DownwardAPIProjection podCertificate=PodCertificateProjection secret=SecretProjection
    serviceAccountToken=ServiceAccountTokenProjection
ClusterTrustBundleProjection labelSelector=LabelSelector name=text optional=flag path=text signerName=text
ConfigMapProjection items=KeyToPath[] name=text optional=flag
DownwardAPIProjection items=DownwardAPIVolumeFile[]
PodCertificateProjection certificateChainPath=text credentialBundlePath=text keyPath=text keyType=text
    maxExpirationSeconds=int signerName=text userAnnotations={text}
SecretProjection items=KeyToPath[] name=text optional=flag
ServiceAccountTokenProjection audience=text expirationSeconds=long path=text
QuobyteVolumeSource group=text readOnly=flag registry=text tenant=text user=text volume=text
RBDVolumeSource fsType=text image=text keyring=text monitors=text[] pool=text readOnly=flag
    secretRef=LocalObjectReference user=text
ScaleIOVolumeSource fsType=text gateway=text protectionDomain=text readOnly=flag secretRef=LocalObjectReference
    sslEnabled=flag storageMode=text storagePool=text system=text volumeName=text
SecretVolumeSource defaultMode=int items=KeyToPath[] optional=flag secretName=text
StorageOSVolumeSource fsType=text readOnly=flag secretRef=LocalObjectReference volumeName=text volumeNamespace=text
VsphereVirtualDiskVolumeSource fsType=text storagePolicyID=text storagePolicyName=text volumePath=text
"""

TYPES: Final[Mapping[str, Mapping[str, Shape]]] = _read(_TABLE.strip())

#: The fields of a job's spec that are lists, mappings, or names of this kind.
OF_SPEC: Final = TYPES["JobSpec"]
