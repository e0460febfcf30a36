"""Every option of TRL 1.12's command lines, with transformers 5.23's, and what becomes of it here.

ours                      has the same name and meaning
translated                is said by options of ours (`test_lm_words.KNOWN`)
harmless                  asks for nothing, whatever its value
harmless for some values  asks for nothing with these, such as false; refused otherwise
refused                   with a line that says what to say instead
"""

TRL = {
    "every command": {
        "ours": """
            adam_beta1 adam_beta2 adam_epsilon debug gradient_checkpointing learning_rate lora_alpha
            max_grad_norm seed weight_decay
        """,
        "translated": """
            bf16 dataset_name dtype gradient_accumulation_steps lora_r lora_target_modules
            lr_scheduler_type model_name_or_path output_dir per_device_train_batch_size report_to
            use_peft
        """,
        "harmless": """
            activation_checkpointing activation_checkpointing_kwargs attn_implementation
            average_tokens_across_devices batch_eval_metrics bnb_4bit_quant_storage bnb_4bit_quant_type
            dataloader_in_order dataloader_multiprocessing_context dataloader_num_workers
            dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor
            dataset_test_split dataset_train_split ddp_backend ddp_broadcast_buffers ddp_bucket_cap_mb
            ddp_find_unused_parameters ddp_static_graph ddp_timeout disable_tqdm do_eval do_train
            enable_jit_checkpoint eval_accumulation_steps eval_delay eval_do_concat_batches eval_steps
            eval_strategy eval_use_gather_object full_determinism gradient_checkpointing_kwargs
            greater_is_better hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy
            hub_token ignore_bias_buffers include_for_metrics include_num_input_tokens_seen
            liger_kernel_config local_rank log_level log_level_replica log_on_each_node
            logging_first_step logging_nan_inf_filter logging_steps logging_strategy lora_task_type
            metric_for_best_model per_device_eval_batch_size prediction_loss_only project
            remove_unused_columns restore_callback_states_from_checkpoint run_name save_on_each_node
            save_only_model save_total_limit skip_memory_metrics tf32 torch_compile torch_compile_backend
            torch_compile_mode torch_empty_cache_steps trackio_bucket_id trackio_space_id
            trackio_static_space_id use_bnb_nested_quant use_cache use_liger_kernel
        """,
        "harmless for some values": """
            auto_find_batch_size bf16_full_eval dataloader_drop_last dataset_streaming do_predict
            eval_on_start fp16 fp16_full_eval ignore_data_skip label_smoothing_factor
            load_best_model_at_end load_in_4bit load_in_8bit lora_dropout max_steps model_revision optim
            push_to_hub save_strategy train_sampling_strategy use_cpu use_dora use_rslora warmup_steps
        """,
        "refused": """
            accelerator_config data_seed dataset_config deepspeed fsdp fsdp_config label_names
            length_column_name lora_modules_to_save lora_target_parameters lr_scheduler_kwargs
            neftune_noise_alpha optim_args optim_target_modules parallelism_config resume_from_checkpoint
            save_steps
        """,
    },
    "sft": {
        "ours": """
            eos_token packing pad_token
        """,
        "translated": """
            chat_template_path completion_only_loss max_length num_train_epochs
        """,
        "harmless": """
            activation_offloading dataset_num_proc eval_packing pad_to_multiple_of padding_free
            router_aux_loss_coef shuffle_dataset
        """,
        "harmless for some values": """
            assistant_only_loss dataset_text_field loss_type packing_strategy truncation_mode
            trust_remote_code
        """,
        "refused": """
            dataset_kwargs model_init_kwargs
        """,
    },
    "reward": {
        "ours": """
            center_rewards_coefficient eos_token pad_token
        """,
        "translated": """
            chat_template_path max_length num_train_epochs
        """,
        "harmless": """
            activation_offloading dataset_num_proc pad_to_multiple_of
        """,
        "harmless for some values": """
            disable_dropout trust_remote_code
        """,
        "refused": """
            model_init_kwargs
        """,
    },
    "ppo": {
        "ours": """
            batch_size gamma missing_eos_penalty response_length temperature whiten_rewards
        """,
        "translated": """
            cliprange cliprange_value kl_coef lam num_mini_batches num_ppo_epochs reward_model_path
            sft_model_path total_episodes vf_coef
        """,
        "harmless": """
            dataset_num_proc ds3_gather_for_generation local_rollout_forward_batch_size
            num_sample_generations
        """,
        "harmless for some values": """
            kl_estimator stop_token
        """,
        "refused": """
            local_batch_size local_mini_batch_size micro_batch_size mini_batch_size model_adapter_name
            num_total_batches num_train_epochs ref_adapter_name stop_token_id world_size
        """,
    },
    "dpo": {
        "ours": """
            beta pad_token
        """,
        "translated": """
            label_smoothing loss_type max_length num_train_epochs
        """,
        "harmless": """
            activation_offloading dataset_num_proc discopop_tau f_alpha_divergence_coef
            pad_to_multiple_of padding_free precompute_ref_batch_size precompute_ref_log_probs
            ref_model_mixup_alpha ref_model_sync_steps router_aux_loss_coef
        """,
        "harmless for some values": """
            disable_dropout f_divergence_type sync_ref_model truncation_mode trust_remote_code
            use_weighting
        """,
        "refused": """
            ld_alpha loss_weights model_init_kwargs
        """,
    },
    "grpo": {
        "ours": """
            beta chat_template_kwargs reward_weights temperature top_k top_p
        """,
        "translated": """
            epsilon epsilon_high importance_sampling_level loss_type mask_truncated_completions
            max_completion_length num_generations num_iterations scale_rewards
        """,
        "harmless": """
            cache_implementation cast_lm_head_to_fp32 ds3_gather_for_generation entropy_coef_delta
            entropy_coef_max entropy_coef_min entropy_target log_completions log_multimodal
            log_unique_prompts num_completions_to_print num_generations_eval pad_to_multiple_of
            ref_model_mixup_alpha ref_model_sync_steps router_aux_loss_coef
            transformers_continuous_batching_config use_transformers_continuous_batching
            use_transformers_paged
        """,
        "harmless for some values": """
            disable_dropout entropy_coef min_p multi_objective_aggregation repetition_penalty
            shuffle_dataset sync_ref_model top_entropy_quantile trust_remote_code use_adaptive_entropy
            use_bias_correction_kl use_vllm
        """,
        "refused": """
            delta generation_batch_size generation_kwargs log_completions_hub_repo
            max_tool_calling_iterations model_init_kwargs num_train_epochs off_policy_mask_threshold
            sapo_temperature_neg sapo_temperature_pos steps_per_generation vespo_k_neg vespo_k_pos
            vespo_lambda_neg vespo_lambda_pos vllm_enable_sleep_mode vllm_gpu_memory_utilization
            vllm_group_port vllm_importance_sampling_cap vllm_importance_sampling_clip_max
            vllm_importance_sampling_clip_min vllm_importance_sampling_correction
            vllm_importance_sampling_mode vllm_max_model_length vllm_mode vllm_model_impl
            vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout
            vllm_structured_outputs_regex vllm_tensor_parallel_size
        """,
    },
}

EARLIER = """
    dataset_batch_size evaluation_strategy force_use_ref_model is_encoder_decoder logging_dir
    no_cuda overwrite_output_dir padding_value ref_model reference_free rpo_alpha save_safetensors
    use_logits_to_keep
"""
"""Words of earlier versions, which are still in many a script."""
