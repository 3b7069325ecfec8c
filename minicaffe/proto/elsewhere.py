"""Fields of LayerParameter that some fork has and minicaffe has not, so that the error can say whose they are."""

FORKS = {
    "FlowNet2's Caffe": ("accum_param", "augmentation_param", "coeff_schedule_param", "correlation_param",
                         "downsample_param", "flow_warp_param", "l1_loss_param", "lpq_loss_param", "resample_param"),
    "the Caffe ports of YOLO": ("mish_param", "region_loss_param", "reorg_param", "yolo_detection_output_param",
                                "yolo_v2_loss_param", "yolo_v3_loss_param", "yolov3_detection_output_param",
                                "yolov3_param"),
    "DeepLab's Caffe": ("densecrf_param", "mat_read_param", "mat_write_param", "seg_accuracy_param",
                        "unique_label_param"),
    "NVIDIA's Caffe (DetectNet)": ("detectnet_augmentation_param", "detectnet_groundtruth_param"),
    "Intel's Caffe": ("mn_activation_param", "mn_param_grad_compress_param", "multinode", "quantization_param",
                      "spatial_dropout_param"),
    "R-FCN's Caffe": ("box_annotator_ohem_param",),
    "Faster R-CNN with its proposals in C++": ("proposal_param",),
    "CRF-RNN's Caffe": ("multi_stage_meanfield_param",),
    "SegNet's Caffe": ("dense_image_data_param",),
    "SphereFace's Caffe": ("margin_inner_product_param",),
    "Caffe with CTC layers for text recognition": ("ctc_decoder_param", "ctc_loss_param", "warpctc_param"),
    "spatial transformer layers": ("st_param", "st_loss_param"),
    "Tongcheng's DenseNet layers": ("denseblock_param",),
    "ddtm's Caffe (domain adaptation)": ("gradient_scaler_param",),
}
OWNERS = {field: fork for fork, fields in FORKS.items() for field in fields}
