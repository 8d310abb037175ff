"""The terms that a row may repeat from a code attribute; anything else may be a name.

A Code String has sixteen characters and no check: consoles let people type there. So a
value is repeated only when every word of it is one of these, or of a rule's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NOT_A_CODE = "NOT_A_CODE"

# Modality (0008,0060): PS3.3 C.7.3.1.1.1, with retired terms that archives still hold.
_MODALITIES = (
    "ANN AR ASMT AU BDUS BI BMD CD CF CFM CP CR CS CT CTPROTOCOL DD DF DG DM DMS DS DX "
    "EC ECG EEG EMG EOG EPS ES FA FID FS GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS "
    "M3D MA MG MR MS NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR "
    "PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN "
    "RTSTRUCT RWV SEG SM SMR SR SRF ST STAIN TEXTUREMAP TG US VA VF XA XAPROTOCOL XC"
)
MODALITIES = frozenset(_MODALITIES.split())

# Body Part Examined (0018,0015): PS3.16 Annex L, word by word, and what consoles of
# several countries write for the same.
_BODY_PARTS = (
    "ABDOMEN ABDOMINAL ABDOMENPELVIS ACJOINT ADRENAL ANKLE ANUS AORTA ARM ARTERY "
    "AXILLA BACK BILEDUCT BLADDER BODY BONE BRAIN BREAST BRONCHUS BUTTOCK CALCANEUS "
    "CALF CAROTID CEREBELLUM CEREBRAL CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS "
    "CLAVICLE COCCYX COLON CORNEA CSPINE CTSPINE DUODENUM EAR ELBOW ESOPHAGUS "
    "EXTREMITY EYE EYELID FACE FEMUR FIBULA FINGER FOOT FOREARM GALLBLADDER HAND HEAD "
    "HEADNECK HEART HIP HUMERUS ILEUM ILIUM IAC JAW JAWBONE JEJUNUM JOINT KIDNEY KNEE "
    "LARYNX LEG LIVER LOWERLIMB LSPINE LSSPINE LUMBAR LUNG LUNGS MANDIBLE MAXILLA "
    "MEDIASTINUM MOUTH NASAL NECK NECKCHEST NOSE ORBIT OVARY PANCREAS PARATHYROID "
    "PAROTID PATELLA PELVIS PENIS PHANTOM PHARYNX PROSTATE RECTUM RENAL RIB RIBS "
    "SACRUM SCALP SCAPULA SCLERA SCROTUM SHOULDER SI SINUS SKULL SPINE SPLEEN SSPINE "
    "STERNUM STOMACH TESTIS THIGH THORACIC THORAX THUMB THYMUS THYROID TIBIA TLSPINE "
    "TMJ TOE TONGUE TRACHEA TSPINE UPPERARM UPPERLIMB URETER URETHRA UTERUS VAGINA "
    "VULVA WHOLEBODY WRIST ZYGOMA BRUST LUNGE BRUSTKORB POUMON POUMONS TORAX PULMON "
    "PULMONES POLMONE POLMONI PETTO KLATKA BORST LONGEN MAIN PIED GENOU MANO PIE "
    "PIEDE RODILLA BECKEN KNIE SCHULTER SCHAEDEL FUSS HANDGELENK"
)

# View Position (0018,5101): PS3.3 C.8.11.5.1.1, and what is written besides.
_VIEWS = (
    "AP PA LL RL LLD RLD RLO LLO LAO RAO LPO RPO LAT LATERAL LLAT RLAT FRONTAL OBLIQUE "
    "OBL DECUBITUS AXIAL TANGENTIAL LATERALS ERECT SUPINE PORTABLE BEDSIDE UPRIGHT "
    "INSPIRATION EXPIRATION VIEW SITTING STANDING LORDOTIC GRID"
)
_QUALIFIERS = "L R B U LEFT RIGHT BOTH UPPER LOWER AND ROUTINE ADULT CHILD OTHER"
WORDS = frozenset(f"{_BODY_PARTS} {_VIEWS} {_QUALIFIERS}".split())

# PS3.3 C.7.6.3.1.2.
PHOTOMETRIC_INTERPRETATIONS = frozenset(
    {
        "MONOCHROME1",
        "MONOCHROME2",
        "PALETTE COLOR",
        "RGB",
        "HSV",
        "ARGB",
        "CMYK",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_PARTIAL_422",
        "YBR_PARTIAL_420",
        "YBR_ICT",
        "YBR_RCT",
        "XYB",
    }
)
PRESENTATION_INTENTS = frozenset({"FOR PRESENTATION", "FOR PROCESSING"})
SEXES = frozenset({"M", "F", "O"})

_SEPARATORS = re.compile(r"[ _/\\.,;:+&()-]+")


def known(text: str, terms: Iterable[str]) -> str | None:
    """`text` where it is one of `terms`; NOT_A_CODE for any other; None for none."""
    if not text:
        return None
    return text if text in terms else NOT_A_CODE


def worded(text: str, terms: Iterable[str]) -> str | None:
    """`text` where it or each of its words is known, of `WORDS` or one of `terms`."""
    words = [word for word in _SEPARATORS.split(text) if word]
    if text and words and all(word in WORDS for word in words):
        return text
    return known(text, terms)
