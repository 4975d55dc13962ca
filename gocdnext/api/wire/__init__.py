"""The message types of the API: what clients read, field by field, one module per resource.

`omit_defaults` is the contract's "absent when empty": a field without a default is always there. Handlers say
`wire.RunDetail`; where a type is defined is nobody else's business. No logic here.
"""

from gocdnext.api.wire.agents import (
    Agent,
    AgentDetail,
    AgentJob,
    Agents,
)
from gocdnext.api.wire.base import (
    Error,
    Id,
    Time,
    Wire,
)
from gocdnext.api.wire.health import (
    Health,
    Version,
)
from gocdnext.api.wire.job_runs import (
    CancelledJob,
    GateAnswer,
    RerunJob,
    VoteBody,
)
from gocdnext.api.wire.pipelines import (
    PipelineYaml,
    TriggerBody,
    Triggered,
)
from gocdnext.api.wire.plugins import (
    Plugin,
    PluginExample,
    PluginInput,
    Plugins,
)
from gocdnext.api.wire.projects import (
    Applied,
    AppliedPipeline,
    AppliedScmSource,
    DefinitionJob,
    Edge,
    JobRunLite,
    Label,
    PipelineMetrics,
    PipelinePreview,
    PipelineSummary,
    ProjectDetail,
    Projects,
    ProjectSummary,
    RunMeta,
    ScmInfo,
    StageRunSummary,
    StageStat,
)
from gocdnext.api.wire.runs import (
    Artifact,
    GateVote,
    GlobalRun,
    JobDetail,
    LogLine,
    Rerun,
    RerunBody,
    RunDetail,
    Runs,
    RunSummary,
    StageDetail,
    Waiting,
)
from gocdnext.api.wire.secrets import (
    Secret,
    SecretBody,
    SecretRef,
    Secrets,
    SecretSet,
)

__all__ = [
    "Agent",
    "AgentDetail",
    "AgentJob",
    "Agents",
    "Applied",
    "AppliedPipeline",
    "AppliedScmSource",
    "Artifact",
    "CancelledJob",
    "DefinitionJob",
    "Edge",
    "Error",
    "GateAnswer",
    "GateVote",
    "GlobalRun",
    "Health",
    "Id",
    "JobDetail",
    "JobRunLite",
    "Label",
    "LogLine",
    "PipelineMetrics",
    "PipelinePreview",
    "PipelineSummary",
    "PipelineYaml",
    "Plugin",
    "PluginExample",
    "PluginInput",
    "Plugins",
    "ProjectDetail",
    "ProjectSummary",
    "Projects",
    "Rerun",
    "RerunBody",
    "RerunJob",
    "RunDetail",
    "RunMeta",
    "RunSummary",
    "Runs",
    "ScmInfo",
    "Secret",
    "SecretBody",
    "SecretRef",
    "SecretSet",
    "Secrets",
    "StageDetail",
    "StageRunSummary",
    "StageStat",
    "Time",
    "TriggerBody",
    "Triggered",
    "Version",
    "VoteBody",
    "Waiting",
    "Wire",
]
