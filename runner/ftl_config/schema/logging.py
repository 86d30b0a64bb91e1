"""Progress, trackers, samples."""

from ftl_config.schema.types import Count, Fraction, Integers, NonNegative, NonNegativeInt, Options, Section


class LoggingSection(Section):
    """Progress, trackers and samples."""

    logging_steps: Count | None = None
    """Log every so many steps; worked out when left out."""
    include_tkps: bool = True
    """Log tokens per second."""
    include_tokens_per_second: bool | None = None
    """Report tokens per second at the end."""
    profiler_steps: Count | Integers | None = None
    """Record a memory profile of so many steps."""
    profiler_steps_start: NonNegativeInt = 0
    """First step of the profile."""
    generate_samples: bool = False
    """Show answers of the model while it trains."""
    num_generation_samples: Count = 3
    """Answers each time."""
    generation_max_new_tokens: Count = 50
    """Longest answer in tokens."""
    generation_temperature: NonNegative = 0.7
    """Sampling temperature of answers; 0 takes the likeliest token."""
    generation_top_p: Fraction | None = None
    """Sample from the likeliest tokens that make up this share."""
    generation_top_k: Count | None = None
    """Sample from so many of the likeliest tokens."""
    generation_prompt_ratio: Fraction = 0.5
    """Share of a text used as prompt."""
    generation_do_sample: bool = True
    """Sample, or take the likeliest token."""
    use_tensorboard: bool | None = None
    """Write TensorBoard files."""
    use_wandb: bool | None = None
    """Log to Weights & Biases; on when wandb_project is set."""
    wandb_project: str | None = None
    """Weights & Biases project."""
    wandb_entity: str | None = None
    """Weights & Biases team or user."""
    wandb_name: str | None = None
    """Name of the run."""
    wandb_run_id: str | None = None
    """Id of the run, to go on with it."""
    wandb_mode: str | None = None
    """online, offline or disabled."""
    wandb_watch: str | bool | None = None
    """What to log of the model: false, gradients, parameters, all."""
    wandb_log_model: str | bool | None = None
    """Upload the model: false, end, checkpoint."""
    use_mlflow: bool | None = None
    """Log to MLflow; on when mlflow_experiment_name is set."""
    mlflow_tracking_uri: str | None = None
    """Address of the MLflow server."""
    mlflow_experiment_name: str | None = None
    """MLflow experiment."""
    mlflow_run_name: str | None = None
    """Name of the run."""
    hf_mlflow_log_artifacts: bool | None = None
    """Upload checkpoints to MLflow."""
    use_comet: bool | None = None
    """Log to Comet; on when comet_project_name is set."""
    comet_api_key: str | None = None
    """Refused: secrets stay out of configs. Set COMET_API_KEY in the environment."""
    comet_workspace: str | None = None
    """Comet workspace."""
    comet_project_name: str | None = None
    """Comet project."""
    comet_experiment_key: str | None = None
    """Id of the experiment, to go on with it."""
    comet_mode: str | None = None
    """create, get or get_or_create."""
    comet_online: bool | None = None
    """Log to the server, or to files."""
    comet_experiment_config: Options | None = None
    """More settings of the Comet experiment."""
    use_trackio: bool | None = None
    """Log to Trackio."""
    trackio_project_name: str | None = None
    """Trackio project."""
    trackio_run_name: str | None = None
    """Name of the run."""
    trackio_space_id: str | None = None
    """Hugging Face Space of the dashboard."""
    use_swanlab: bool | None = None
    """Log to SwanLab."""
    swanlab_project: str | None = None
    """SwanLab project."""
    swanlab_experiment_name: str | None = None
    """Name of the run."""
    swanlab_description: str | None = None
    """Description of the run."""
    swanlab_mode: str | None = None
    """cloud, local, offline or disabled."""
    swanlab_workspace: str | None = None
    """SwanLab workspace."""
    swanlab_api_key: str | None = None
    """Refused: secrets stay out of configs. Set SWANLAB_API_KEY in the environment."""
    swanlab_log_model: bool | None = None
    """Upload checkpoints."""
    swanlab_web_host: str | None = None
    """Address of a private SwanLab."""
    swanlab_api_host: str | None = None
    """API address of a private SwanLab."""
    swanlab_lark_webhook_url: str | None = None
    """Address to send notices to."""
    swanlab_lark_secret: str | None = None
    """Refused: secrets stay out of configs."""
    swanlab_log_completions: bool | None = None
    """Log answers in preference training."""
    swanlab_completion_log_interval: Count | None = None
    """Steps between two such logs."""
    swanlab_completion_max_buffer: Count | None = None
    """Answers held until they are logged."""
    use_otel_metrics: bool = False
    """Serve metrics for Prometheus."""
    otel_metrics_host: str = "localhost"
    """Address to serve them on."""
    otel_metrics_port: int = 8000
    """Port to serve them on."""
    gradio_title: str | None = None
    """Title of the inference page."""
    gradio_share: bool | None = None
    """Put the inference page on a public address."""
    gradio_server_name: str | None = None
    """Address to serve the inference page on."""
    gradio_server_port: Count | None = None
    """Port to serve it on."""
    gradio_max_new_tokens: Count | None = None
    """Longest answer there."""
    gradio_temperature: NonNegative | None = None
    """Sampling temperature there."""
    strict: bool | None = None
    """Axolotl: allow only flags for keys that the file has. Unknown keys are always refused here."""
    is_preprocess: bool | None = None
    """Axolotl's internal mark of its preprocess command."""
    preprocess_iterable: bool | None = None
    """Axolotl's internal mark of its preprocess command."""
    axolotl_config_path: str | None = None
    """Axolotl's internal note of the config's path."""
