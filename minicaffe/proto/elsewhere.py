"""Fields and layer types of forks that minicaffe does not have; errors name the fork.

FIELDS lists, by fork, fields of LayerParameter and, with a dot, fields of other messages and values of enums.  TYPES
lists layer types.  TYPE_OWNERS maps a layer type to its fork.
"""

FIELDS = {
    "FlowNet2's Caffe": """accum_param augmentation_param coeff_schedule_param correlation_param downsample_param
        flow_warp_param l1_loss_param lpq_loss_param mean_param resample_param DataParameter.encoding
        DataParameter.preselection_file DataParameter.rand_permute DataParameter.slice_point""",
    "the Caffe ports of YOLO": """mish_param region_loss_param reorg_param yolo_detection_output_param
        yolo_v2_loss_param yolo_v3_loss_param yolov3_detection_output_param yolov3_param""",
    "DeepLab's Caffe": """densecrf_param mat_read_param mat_write_param seg_accuracy_param unique_label_param
        ImageDataParameter.label_type V1LayerParameter.strict_dim""",
    "DeepLab's Caffe (write `dilation`)": "ConvolutionParameter.hole",
    "NVIDIA's Caffe (DetectNet)": "detectnet_augmentation_param detectnet_groundtruth_param",
    "Intel's Caffe": """mn_activation_param mn_param_grad_compress_param multinode spatial_dropout_param
        ConvolutionParameter.relu""",
    "Ristretto and Intel's Caffe": "quantization_param",
    "Caffe with deformable convolution": "deformable_convolution_param",
    "CRF-RNN's Caffe": "multi_stage_meanfield_param",
    "SegNet's Caffe": "dense_image_data_param",
    "OpenPose's Caffe": "cpm_transform_param imresize_param nms_param",
    "DeconvNet's Caffe": "unpooling_param LayerType.UNPOOLING",
    "SphereFace's Caffe": "margin_inner_product_param",
    "Caffe with CTC layers for text recognition": """continuation_indicator_param ctc_decoder_param ctc_loss_param
        warp_ctc_loss_param warpctc_param""",
    "Caffe with a triplet loss": "triplet_loss_param",
    "Caffe with a focal loss": "focal_loss_param",
    "Caffe with locally connected layers": "local_conv_param local_param",
    "Caffe with N-d pooling": "pooling_nd_param",
    "C3D's Caffe": "LayerType.CONVOLUTION3D LayerType.POOLING3D",
    "spatial transformer layers": "st_param st_loss_param",
    "Tongcheng's DenseNet layers": "denseblock_param",
    "ddtm's Caffe (domain adaptation)": "gradient_scaler_param",
}

TYPES = {
    "SSD's Caffe": "VideoData",
    "FlowNet2's Caffe": """Accum ChannelNorm Correlation Correlation1D CustomData DataAugmentation Downsample
        FlowAugmentation FlowWarp GenerateAugmentationParameters L1Loss LpqLoss Mean Resample""",
    "the Caffe ports of YOLO": """Mish Region RegionLoss Reorg YoloDetectionOutput YoloV2Loss YoloV3Loss Yolov3
        Yolov3DetectionOutput""",
    "DeepLab's Caffe": "DenseCRF ImageSegData MatRead MatWrite SegAccuracy UniqueLabel",
    "NVIDIA's Caffe (DetectNet)": "DetectNetTransformation",
    "Ristretto": "ConvolutionRistretto DeconvolutionRistretto FcRistretto LRNRistretto",
    "Caffe with deformable convolution": "DeformableConvolution DeformablePSROIPooling",
    "CRF-RNN's Caffe": "MultiStageMeanfield",
    "SegNet's Caffe": "DenseImageData",
    "OpenPose's Caffe": "CPMData ImResize Nms",
    "DeconvNet's Caffe": "Unpooling",
    "SphereFace's Caffe": "MarginInnerProduct",
    "Caffe with CTC layers for text recognition": """ContinuationIndicator CTCDecoder CTCGreedyDecoder CTCLoss CtcLoss
        Reverse SequenceAccuracy WarpCTC WarpCTCLoss""",
    "Caffe with a triplet loss": "TripletLoss",
    "Caffe with a focal loss": "FocalLoss",
    "Caffe with locally connected layers": "Local LocalConvolution",
    "Caffe with N-d pooling": "PoolingND",
    "spatial transformer layers": "SpatialTransformer",
    "Tongcheng's DenseNet layers": "DenseBlock",
    "ddtm's Caffe (domain adaptation)": "GradientScaler",
}


def _owners(forks: dict[str, str]) -> dict[str, str]:
    return {name: fork for fork, names in forks.items() for name in names.split()}


_FIELD_OWNERS, TYPE_OWNERS = _owners(FIELDS), _owners(TYPES)


def field_owner(message: str, name: str) -> str | None:
    """Return the fork that defines field `name` of a message, or value `name` of an enum; None if none is known.

    message: the name of the message or enum.
    """
    return _FIELD_OWNERS.get(name if message == "LayerParameter" else f"{message}.{name}")
